"""One training step beside PyTorch's: gather, normalise, forward, backward, update.

`step:resnet20,lenet` measures these nets alone, `nocompile` among them leaves torch.compile out,
`quick` takes two blocks. The sides take turns, block by block, in one process.
"""

from __future__ import annotations

import importlib
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import sides
from sides import CASES, Arrays, Step

from netspec.runtime.state import Binding

BLOCK, BUDGET = 0.7, 45.0
"""Seconds of one side's block, and of all blocks of a net."""
FEWEST, MOST = 3, 15
"""Blocks of a side."""
PAUSE = 0.1
"""Seconds for the other side's threads to stop spinning."""

STAGES = {
    "read": ("sides", "read"),
    "elaborate": ("sides", "elaborate"),
    "target": ("netspec.training.execution.executor", "target_for"),
    "gradient graph": ("netspec.training.execution.executor", "gradient_graph"),
    "emit": ("netspec.training.execution.recorded", "emit"),
    "sessions": ("netspec.training.execution.recorded", "make_session"),
    "run": ("netspec.runtime.state:Binding", "run"),
}
"""The functions that a stage of our step's making is spent in, and where they are called."""


def measure(*words: str) -> Iterator[tuple[str, str]]:
    flags = {word for word in words if word in ("nocompile", "quick")}
    nets = sides.chosen(tuple(word for word in words if word not in flags))
    try:
        import torch
    except ImportError:
        yield "skipped", "PyTorch is not installed: pip install netspec[parity]"
        return
    yield "PyTorch", f"{torch.__version__}, {torch.get_num_threads()} threads"
    table: dict[str, str] = {}
    for name in nets:
        torch.compiler.reset()
        yield from measure_net(
            name, table, compiled="nocompile" not in flags, quick="quick" in flags
        )
    yield "the table", "ours ms, eager / ours, wanted; compile / ours; ms outside; s to first step"
    yield from table.items()


def measure_net(
    name: str, table: dict[str, str], *, compiled: bool, quick: bool
) -> Iterator[tuple[str, str]]:
    """The rows of one net, and its line in the table."""
    net = sides.net_of(name)
    arrays = sides.noise(net)
    called = f"{name}, batch {net.batch}"
    mine, first, making = make(name, arrays)
    yield f"{called}: text to first step", making
    steps = {"ours": mine, "eager": sides.pytorch(name, arrays, net)}
    if compiled:
        step = sides.pytorch(name, arrays, net, compiled=True)
        try:
            seconds = timed(step)
        except Exception as error:  # whatever the compiler or its C++ compiler say
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            yield f"{called}: torch.compile", f"failed: {said}"
        else:
            steps["compile"] = step
            yield f"{called}: torch.compile's first step", f"{seconds:.1f} s"
    times = race(steps, 2 if quick else None)
    medians = {side: statistics.median(kept) for side, kept in times.items()}
    for side, kept in times.items():
        yield f"{called}: {side}", spread(kept)
    ratio, floor = medians["eager"] / medians["ours"], CASES[name].floor
    said = "holds" if ratio >= floor else "does not hold"
    yield f"{called}: eager / ours", f"{ratio:.2f}, wanted {floor:.1f}: {said}"
    beside = "-"
    if "compile" in medians:
        beside = f"{medians['compile'] / medians['ours']:.2f}"
        yield f"{called}: compile / ours", beside
    apart = outside(mine) * 1e3
    yield f"{called}: outside of the sessions", f"{apart:.3f} ms per step"
    mark = "" if ratio >= floor else " !"
    table[called] = (
        f"{medians['ours']:8.2f}  {ratio:5.2f}  {floor:.1f}{mark:<2}  {beside:>5}"
        f"  {apart:6.3f}  {first:5.2f}"
    )


def make(name: str, arrays: Arrays) -> tuple[Step, float, str]:
    """Our step after its first run, the seconds that took, and its stages; the process is warm."""
    with Stopwatch() as watch:
        started = time.perf_counter()
        step = sides.ours(name, arrays)
        step(0)
        whole = time.perf_counter() - started
    stages = {**watch.seconds, "rest": whole - sum(watch.seconds.values())}
    parts = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in stages.items())
    return step, whole, f"{whole:.2f} s: {parts}"


def race(steps: Mapping[str, Step], blocks: int | None) -> dict[str, list[float]]:
    """Milliseconds per step of each side, block by block in turn."""
    once = {side: warmed(step) for side, step in steps.items()}
    count = {side: max(1, round(BLOCK / seconds)) for side, seconds in once.items()}
    turn = sum((count[side] + 1) * once[side] + PAUSE for side in steps)
    if blocks is None:
        blocks = min(MOST, max(FEWEST, int(BUDGET / turn)))
    times: dict[str, list[float]] = {side: [] for side in steps}
    for _ in range(blocks):
        for side, step in steps.items():
            time.sleep(PAUSE)
            step(0)
            started = time.perf_counter()
            for i in range(count[side]):
                step(i)
            times[side].append((time.perf_counter() - started) / count[side] * 1e3)
    return times


def warmed(step: Step) -> float:
    """Seconds of a step that is not the first."""
    time.sleep(PAUSE)
    timed(step)
    return min(timed(step) for _ in range(2))


def timed(step: Step) -> float:
    started = time.perf_counter()
    step(0)
    return time.perf_counter() - started


def outside(step: Step) -> float:
    """Seconds of one of our steps in which onnxruntime runs nothing, the median of several.

    Several of its runs may go on at once. The clock stands around them alone; reading it costs a
    few microseconds that count here.
    """
    left, inside, running, begun = [], 0.0, 0, 0.0
    run, lock = Binding.run, threading.Lock()

    def counted(binding: Binding) -> None:
        nonlocal inside, running, begun
        with lock:
            begun = begun if running else time.perf_counter()
            running += 1
        run(binding)
        with lock:
            running -= 1
            inside += 0.0 if running else time.perf_counter() - begun

    Binding.run = counted  # type: ignore[method-assign, assignment]
    try:
        for _ in range(max(9, round(2 * BLOCK / warmed(step)))):
            inside = 0.0
            whole = timed(step)
            left.append(whole - inside)
    finally:
        Binding.run = run  # type: ignore[method-assign]
    return statistics.median(left)


class Stopwatch:
    """Counts the seconds spent in each of `STAGES` while it is entered; none calls another."""

    def __enter__(self) -> Stopwatch:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._kept: list[tuple[Any, str, Callable[..., Any]]] = []
        for stage, (place, attribute) in STAGES.items():
            module, _, called = place.partition(":")
            owner: Any = importlib.import_module(module)
            owner = getattr(owner, called) if called else owner
            function = getattr(owner, attribute)
            self._kept.append((owner, attribute, function))
            setattr(owner, attribute, self._counted(stage, function))
        return self

    def __exit__(self, *_: object) -> None:
        for owner, attribute, function in self._kept:
            setattr(owner, attribute, function)

    def _counted(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **settings: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **settings)
            finally:
                self.seconds[stage] += time.perf_counter() - started

        return counted


def spread(times: list[float]) -> str:
    low, middle, high = statistics.quantiles(times, n=4, method="inclusive")
    return f"{middle:.2f} ms (quartiles {low:.2f} to {high:.2f}, {len(times)} blocks)"
