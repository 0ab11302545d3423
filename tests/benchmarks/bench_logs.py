"""What events, TensorBoard's curves, norms and the page cost LeNet's training.

Pieces of 40 steps without and with them take turns; a row of the log every 20 steps and a test
every 160, as an epoch of the bundled digits has it.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from netspec.compiler import read
from netspec.data.order import Batches
from netspec.training.beginning import create_run
from netspec.training.execution.executor import Executor
from netspec.training.execution.machine import find_machine
from netspec.training.listeners import Listeners
from netspec.training.logs.records import recording
from netspec.training.outcome import Outcome
from netspec.training.setup.experiment import prepare

PIECES, STEPS, ROW, TEST = 16, 40, 20, 160


def measure() -> Iterator[tuple[str, str]]:
    experiment = prepare(read("lenet", sets=[f"solver.test_interval={TEST}"]))
    machine = find_machine("cpu", target=None, threads=None)
    executor = Executor.of(experiment, machine)
    with tempfile.TemporaryDirectory() as folder:
        shards = executor.shards
        run = create_run(experiment, Path(folder), "cpu", machine, None, (), shards, skip_bad=0)
        listeners = Listeners()
        with run.lock(), recording(run, experiment, executor, None, listeners, resumed=False):
            bare, logged, heard = _pieces(executor, experiment.batches, listeners, run.path)
            began = time.perf_counter()
            listeners.finished(Outcome(run.path, STEPS, STEPS, {}, None, None, 0))
            last = time.perf_counter() - began
    step = statistics.median(bare)
    yield "a step with logs / without", f"{statistics.median(logged) / step:.3f}"
    whole = STEPS * (sum(bare) + sum(logged))  # pages come by the clock, which goes on meanwhile
    yield "the logs' own time", f"{heard / whole:.2%} of all"
    yield "the last page, with a pass over the test data", f"{1e3 * last:.0f} ms"


def _pieces(
    executor: Executor, batches: Batches, listeners: Listeners, path: Path
) -> tuple[list[float], list[float], float]:
    """Seconds of each step, without and with logs, and of what the logs did."""
    listeners.started(0, PIECES * STEPS, path)
    spent: list[list[float]] = [[], []]
    heard, done = 0.0, 0
    for piece in range(2 * PIECES):
        began = time.perf_counter()
        for _ in range(STEPS):
            result = executor.step(done, batches.indices(done), 0.01)
            if piece % 2:
                done += 1
                before = time.perf_counter()
                _told(listeners, done, result.loss)
                heard += time.perf_counter() - before
        spent[piece % 2].append((time.perf_counter() - began) / STEPS)
    return spent[0], spent[1], heard


def _told(listeners: Listeners, done: int, loss: float) -> None:
    listeners.progressed(done, loss, 0.01)
    if done % TEST == 0:
        listeners.tested(done, {"loss": loss, "accuracy1": 0.5})
    if done % ROW == 0:
        listeners.recorded(done, done / 157, 0.01, {"loss": loss, "accuracy1": 0.5})
