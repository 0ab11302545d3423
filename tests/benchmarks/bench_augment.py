"""What augmentation adds to a training step of ResNet-20 on 32x32, batch 64.

The steps take turns, a few at a time, in one process, so that what else the machine does falls on
all of them alike; a share is the median of those of the rounds, of which `augment:6` takes 6.
Beside the time that passes stands the processors', which other work disturbs less.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import sides

from netspec.ir.net import Net
from netspec.ir.sections import Transform
from netspec.training.executor import Executor

ROUNDS, STEPS = 20, 3
WANTED = 0.15
"""Of a step, that crop, flip, rotation and brightness may take."""

CUT: dict[str, Any] = {"pad": 4, "crop_size": 32, "mirror": True}
TRANSFORMS: dict[str, dict[str, Any]] = {
    "none": {},
    "crop and flip": CUT,
    "crop, flip, brightness": {**CUT, "brightness": 0.2},
    "crop, flip, rotation": {**CUT, "rotation": 15},
    "crop, flip, rotation, brightness": {**CUT, "rotation": 15, "brightness": 0.2},
    "preset PLANKTON": {"preset": "PLANKTON"},
    "all colours": {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.1},
    "cutout": {"cutout": 16},
}
ASKED = "crop, flip, rotation, brightness"


def measure(rounds: str = str(ROUNDS)) -> Iterator[tuple[str, str]]:
    net = sides.net_of("resnet20")
    arrays = sides.noise(net)
    steps = {called: _step(net, fields, arrays) for called, fields in TRANSFORMS.items()}
    times: dict[str, list[tuple[float, float]]] = {called: [] for called in steps}
    for round in range(int(rounds) + 1):
        for called, step in steps.items():
            taken = [_seconds(step, round * STEPS + i) for i in range(STEPS)]
            passed, worked = (min(clock) for clock in zip(*taken, strict=True))
            if round:  # the first one warms up
                times[called].append((passed, worked))
    for called, pairs in times.items():
        said = []
        for clock, name in enumerate(("", "of the processors ")):
            own, bare = ([pair[clock] for pair in kept] for kept in (pairs, times["none"]))
            share = statistics.median(a / b - 1 for a, b in zip(own, bare, strict=True))
            said.append(f"{statistics.median(own) * 1e3:.1f} ms {name}({share:+.1%})")
        holds = ""
        if called == ASKED:
            holds = f", wanted {WANTED:.0%}: {'holds' if share <= WANTED else 'does not hold'}"
        yield called, ", ".join(said) + holds


def _step(net: Net, fields: dict[str, Any], arrays: sides.Arrays) -> sides.Step:
    """The step of the net whose images are transformed so, each drawing anew."""
    assert net.data is not None
    kept = net.data.transform
    transform = Transform(mean_value=kept.mean_value, scale=kept.scale, **fields)
    data = net.data.model_copy(update={"transform": transform})
    own = net.model_copy(update={"data": data})
    executor = Executor(own, None, arrays, None, device="cpu", seed=1)
    batches = [sides._batch(own.batch, arrays, i) for i in range(16)]
    return lambda i: executor.step(i, batches[i % 16], sides.RATE).loss


def _seconds(step: sides.Step, i: int) -> tuple[float, float]:
    """Of a step: those that passed, and those that processors worked."""
    started = time.perf_counter(), time.process_time()
    step(i)
    return time.perf_counter() - started[0], time.process_time() - started[1]
