"""`netspec check` as a whole process, and its numbers beside torchinfo's.

torchinfo runs the twin in PyTorch, on a batch of one as its README shows it, or on meta tensors,
where nothing is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec

from bench_scaling import FORMS, check, taken
from counted import TWINS, count, nets, summary, total_surplus

ROUNDS = 5
WANTED = {"resnet152": 1.5, "densenet201": 1.5}
LAYERS, WANTED_OF_LAYERS = 10_000, 10.0
PROCESS = """
import sys
sys.path.insert(0, "tests/parity")
import torch, torchinfo
from {module} import {called}
with torch.device("{device}"):
    twin = {called}()
torchinfo.summary(twin, input_size={shape}, device="{device}")
"""


def measure() -> Iterator[tuple[str, str]]:
    missing = [name for name in ("torch", "torchinfo") if find_spec(name) is None]
    for name, wanted in WANTED.items():
        ours = median(partial(taken, "-m", "netspec", "check", name))
        yield f"netspec check {name}", f"{seconds(*ours)} (wanted: {wanted} s)"
        for device in () if missing else ("cpu", "meta"):
            theirs = median(partial(taken, "-c", process(name, device)))
            times = theirs[0] / ours[0]
            yield f"torchinfo {name}, {device}", f"{seconds(*theirs)}, {times:.1f} times as long"
    for form, text in FORMS.items():
        ours = median(partial(check, text(LAYERS)), rounds=3)
        yield f"{LAYERS:,} layers, {form}", f"{seconds(*ours)} (wanted: {WANTED_OF_LAYERS} s)"
    if missing:
        yield "torchinfo's numbers", f"skipped: {' and '.join(missing)} missing"
        return
    for name in TWINS:
        yield from numbers(name)


def median(run: Callable[[], tuple[float, float]], rounds: int = ROUNDS) -> tuple[float, float]:
    """Wall and processor time of the middle of some runs, after one that reads the disk."""
    run()
    return sorted(run() for _ in range(rounds))[rounds // 2]


def seconds(wall: float, processor: float) -> str:
    return f"{wall:.2f} s, {processor:.2f} s of a processor"


def process(name: str, device: str) -> str:
    """A program that prints torchinfo's table of the twin."""
    module, called = TWINS[name]
    shape = (1, *nets(name)[0].inputs["data"].sample)
    return PROCESS.format(module=module, called=called, device=device, shape=shape)


def numbers(name: str) -> Iterator[tuple[str, str]]:
    """Ours and torchinfo's, and what the difference is made of."""
    ours, theirs = count(name), summary(name)
    unused = sum(p.numel for p in nets(name)[1].parameters) - ours.parameters
    yield (
        f"{name}: parameters",
        compared(ours.parameters, theirs.total_params, {"only in phase TRAIN": unused}),
    )
    yield f"{name}: MACs", compared(ours.macs, theirs.total_mult_adds, total_surplus(ours))


def compared(ours: int, theirs: int, surplus: dict[str, int]) -> str:
    """Both, and whether `surplus` is the whole difference."""
    if ours == theirs:
        return f"{ours:,}, equal"
    reasons = " + ".join(f"{n:,} {what}" for what, n in surplus.items())
    left = theirs - ours - sum(surplus.values())
    if left:
        reasons += f" + {left:,} UNEXPLAINED"
    return f"{ours:,}; torchinfo {theirs:,} = ours + {reasons}"
