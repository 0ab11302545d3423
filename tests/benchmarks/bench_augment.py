"""What augmentation adds to a training step of ResNet-20 on 32x32, batch 64.

The steps take turns, a few at a time, in one process, so that what else the machine does falls on
all of them alike; a share is the median of those of the rounds, of which `augment:6` takes 6.
Beside the time that passes stands the processors', which other work disturbs less. Below stands
the first part of the step alone, which gathers, transforms and normalises.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import sides

from netspec.codegen.emit import emit
from netspec.codegen.feed import feed_graph
from netspec.ir.net import Net
from netspec.ir.transform import Transform
from netspec.runtime.device import choose_device
from netspec.runtime.session import make_session
from netspec.training.execution.bound import array_types
from netspec.training.execution.executor import Executor
from netspec.training.execution.randoms import uniform

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
    steps = {
        called: _step(_augmented(net, fields), arrays) for called, fields in TRANSFORMS.items()
    }
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
    yield from _alone(net, arrays, int(rounds))


def _alone(net: Net, arrays: sides.Arrays, rounds: int) -> Iterator[tuple[str, str]]:
    """What the images take before the net sees them, in its own session."""
    runs = {called: _feed(_augmented(net, fields), arrays) for called, fields in TRANSFORMS.items()}
    times: dict[str, list[float]] = {called: [] for called in runs}
    for i in range(10 * rounds):
        for called, run in runs.items():
            times[called].append(_seconds(run, i)[0])
    for called, taken in times.items():
        middle, least = statistics.median(taken) * 1e3, min(taken) * 1e3
        yield f"{called}, alone", f"{middle:.2f} ms (least {least:.2f})"


def _augmented(net: Net, fields: dict[str, Any]) -> Net:
    """The net with its images transformed so, each drawing anew."""
    assert net.data is not None
    kept = net.data.transform
    transform = Transform(mean_value=kept.mean_value, scale=kept.scale, **fields)
    data = net.data.model_copy(update={"transform": transform})
    return net.model_copy(update={"data": data})


def _feed(net: Net, arrays: sides.Arrays) -> sides.Step:
    """The first part of the step of a net, lots included."""
    graph = feed_graph(net, array_types(arrays))
    session = make_session(emit(graph.graph, names=graph.names), choose_device("cpu"))
    indices = np.arange(net.batch, dtype=np.int64)

    def run(i: int) -> float:
        lots = {f"random:{name}": uniform(1, i, name, value.type.shape)
                for name, value in graph.randoms.items()}  # fmt: skip
        (made,) = session.run(None, {"data": arrays["data"], "indices": indices, **lots})
        return float(made[0, 0, 0, 0])

    return run


def _step(own: Net, arrays: sides.Arrays) -> sides.Step:
    """The whole step of a net."""
    executor = Executor(own, None, arrays, None, device="cpu", seed=1)
    batches = [sides._batch(own.batch, arrays, i) for i in range(16)]
    return lambda i: executor.step(i, batches[i % 16], sides.RATE).loss


def _seconds(step: sides.Step, i: int) -> tuple[float, float]:
    """Of a step: those that passed, and those that processors worked."""
    started = time.perf_counter(), time.process_time()
    step(i)
    return time.perf_counter() - started[0], time.process_time() - started[1]
