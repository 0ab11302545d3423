"""The training loop: steps, log rows, tests and checkpoints, each where the iteration says."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import isfinite
from typing import Any, Protocol

from numpy.typing import NDArray

from netspec.diagnostics import DataError, UsageError
from netspec.ir.schedule import learning_rate
from netspec.ir.sections import Solver
from netspec.training.checkpoint import Keeper, Progress, State
from netspec.training.due import Due
from netspec.training.listener import Listener
from netspec.training.log import Log
from netspec.training.metrics import Scores, Step, improves, values
from netspec.training.outcome import Diverged, Outcome, Stopped
from netspec.training.run import Run
from netspec.training.signals import Signals
from netspec.training.snapshot import Snapshot

_PATIENCE = 3
"""Updates that may be skipped in a row before the training counts as diverged."""


class Executor(Protocol):
    """Runs steps; the one part that holds tensors."""

    def step(self, iteration: int, indices: NDArray[Any], rate: float) -> Step: ...
    def evaluate(self, batches: int | None) -> Scores:
        """The test data's, or those of so many batches of it.

        A signal may abandon it midway; state() must then still be right.
        """
        ...

    def state(self) -> State: ...
    def restore(self, state: State) -> None: ...


class Batches(Protocol):
    """Which samples an iteration takes."""

    @property
    def samples(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    def indices(self, iteration: int) -> NDArray[Any]: ...
    def epoch(self, iteration: int) -> int: ...


def restore(executor: Executor, run: Run, listener: Listener | None = None) -> Progress | None:
    """Put the newest sound checkpoint of a locked run into the executor, and say if it fell back.

    None if the run has none yet: it then starts from the beginning, and ends the same. Raises
    DataError if all are damaged, or if the newest belongs to another spec.
    """
    assert run.locked
    keeper: Keeper = run.checkpoints
    found = keeper.newest()
    if found is None:
        return None
    if found.progress.spec != run.spec_hash():
        raise DataError(f"{found.path}: belongs to another text of {run.spec}")
    keeper.set_aside(found)
    for _, fault in found.damaged:
        went = f"fell back to iteration {found.progress.iteration}"
        (listener or Listener()).warned(f"{fault}; {went}")
    executor.restore(found.state)
    return found.progress


def train(
    executor: Executor,
    batches: Batches,
    solver: Solver,
    run: Run,
    *,
    length: int,
    resume: Progress | None = None,
    listener: Listener | None = None,
    model: Callable[[State], bytes] | None = None,
    tests: bool = True,
    snapshot: Snapshot | None = None,
    save_seconds: float = 600.0,
    complete: Callable[[Outcome], Outcome] = lambda outcome: outcome,
) -> Outcome:
    """Train up to `length` iterations in a locked run, and return how it ended.

    Rows are logged every `display` iterations and with each test; a test is due at the end and
    every `test_interval` iterations, or when an epoch is through, and before the first iteration
    with `test_initialization`; a checkpoint follows each test and each `snapshot` iterations, and
    comes when the last is `save_seconds` old. None of this changes the weights, so a run that was
    killed and resumed ends with the same bytes. `tests` tells whether there is test data; `model`
    makes the ONNX file of the trained state; `snapshot` is called before the checkpoints that the
    solver's fields of that name ask for, again if a killed run comes by again; `complete` puts into
    the outcome what the loop does not see.

    Raises Diverged after three updates in a row that were not finite, and Stopped when SIGINT or
    SIGTERM came (heeded in the main thread only): the step is finished, a test is not, and the
    state is saved. A second signal raises KeyboardInterrupt where it falls.
    """
    assert run.locked
    listener = listener or Listener()
    progress = resume or Progress(seed=solver.random_seed, spec=run.spec_hash())
    if progress.seed != solver.random_seed:
        was = f"was started with random_seed {progress.seed}"
        raise UsageError(f"{run.path}: {was}, not {solver.random_seed}")
    if progress.iteration > length:
        raise UsageError(f"{run.path}: {progress.iteration} iterations are done, beyond {length}")
    with Signals() as signals:
        listener.started(progress.iteration, length, run.path)
        loop = _Loop(
            executor, batches, solver, run, length, progress, listener, signals, tests, snapshot,
            save_seconds,
        )  # fmt: skip
        loop.run_to_end()
        if loop.progress.bad or not isfinite(loop.progress.test.get("loss", 0.0)):
            raise Diverged(loop.why_diverged())
        run.finish(executor.state(), model)
    outcome = complete(loop.outcome(progress.iteration))
    listener.finished(outcome)
    return outcome


@dataclass
class _Loop:
    """One training in this process; `progress` is all of its state that matters later."""

    executor: Executor
    batches: Batches
    solver: Solver
    run: Run
    length: int
    progress: Progress
    listener: Listener
    signals: Signals
    tests: bool
    snapshot: Snapshot | None
    save_seconds: float
    saved: Progress | None = None
    saved_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.log = Log(self.run.log, keep=self.progress.recorded, warn=self.listener.warned)
        self.due = Due(self.solver, self.length, self.batches.epoch)
        self.saved = self.progress  # a resumed one lies on the disk, and a new one is nothing

    def run_to_end(self) -> None:
        """Do all that is due after an iteration before the next one.

        A resumed run enters at the same place, so that it repeats none of it and misses none.
        """
        while True:
            self.record()
            if self.signals.stop and not self.complete:
                self.save()
                raise Stopped(self.run.path, self.progress.iteration)
            if self.save_due:
                self.save()
            if self.complete:
                return
            self.step()

    @property
    def complete(self) -> bool:
        return self.progress.recorded >= self.length

    @property
    def save_due(self) -> bool:
        late = time.monotonic() - self.saved_at >= self.save_seconds
        done = self.progress.iteration
        return self.due.checkpoint(done) or (late and done > 0)

    def step(self) -> None:
        """One iteration, and whether it was a good one."""
        before = self.progress
        rate = learning_rate(self.solver, before.iteration, self.length)
        indices = self.batches.indices(before.iteration)
        result = self.executor.step(before.iteration, indices, rate)
        done = before.iteration + 1
        change: dict[str, Any]
        if result.finite:
            averages, loss = before.averages.add(values(result)), float(result.loss)
            change = {"averages": averages, "bad": 0, "last_loss": loss}
            if self.solver.average_loss is not None:
                change["recent"] = (*before.recent, loss)[-self.solver.average_loss :]
        else:
            change = {"bad": before.bad + 1, "skipped": before.skipped + 1}
        self.progress = before.model_copy(update={"iteration": done, **change})
        self.listener.progressed(done, self.smoothed.get("loss", result.loss), rate)
        if self.progress.bad >= _PATIENCE:
            raise Diverged(self.why_diverged())

    @property
    def smoothed(self) -> dict[str, float]:
        """The loss as `average_loss` wants it, if it does: a mean of the last ones (Caffe,
        `Solver::UpdateSmoothedLoss`)."""
        recent = self.progress.recent
        return {"loss": sum(recent) / len(recent)} if recent else {}

    def why_diverged(self) -> str:
        first, last = self.progress.iteration - self.progress.bad + 1, self.progress.last_loss
        what = f"loss or gradients not finite from iteration {first} on"
        if not self.progress.bad:
            what = f"the test loss is not finite after iteration {self.progress.iteration}"
        saved = self.run.checkpoints.paths()
        return (
            f"{self.run.path}: diverged: {what}; "
            + ("no loss was finite" if last is None else f"the last finite loss was {last:.6g}")
            + (f"; {saved[-1].name} is kept" if saved else "; there is no checkpoint yet")
            + "; a lower base_lr may help"
        )

    def record(self) -> None:
        """The log's row and the test of this iteration, if they are due and not yet there."""
        done = self.progress.iteration
        if done <= self.progress.recorded:
            return
        test = self.test() if self.tests and self.due.test(done) else {}
        if test is None:
            return  # a signal came; the test is run when the training goes on
        if self.due.line(done):
            self.log.append(
                done,
                epoch=done * self.batches.batch_size / self.batches.samples,
                rate=learning_rate(self.solver, max(done - 1, 0), self.length),
                train=self.progress.averages.means() | self.smoothed,
                test=test,
            )
            empty = Progress().averages
            self.progress = self.progress.model_copy(update={"recorded": done, "averages": empty})

    def test(self) -> dict[str, float] | None:
        """The test's values, noted in `progress`; None if a signal cut it short."""
        test = partial(self.executor.evaluate, self.solver.test_iter)
        evaluation = self.signals.abandoning(test)
        if evaluation is None:
            return None
        metrics = {name: float(value) for name, value in evaluation.metrics.items()}
        scores = {name: float(value) for name, value in values(evaluation).items()}
        change: dict[str, Any] = {"test": scores}
        # The last metric is that of the main chain: heads stand before its end.
        score = next(reversed(metrics.values()), scores["loss"])
        if improves(score, self.progress.best, higher=bool(metrics)):
            change |= {"best": score, "best_iteration": self.progress.iteration}
        self.progress = self.progress.model_copy(update=change)
        self.listener.tested(self.progress.iteration, scores)
        return scores

    def save(self) -> None:
        """A checkpoint of now, unless there is one; a snapshot before it, if it is due."""
        if self.saved == self.progress:
            return
        self.log.sync()
        state = self.executor.state()
        if self.snapshot is not None and self.due.snapshot(self.progress.iteration):
            self.snapshot(state, self.progress.iteration)
        path = self.run.checkpoints.save(state, self.progress)
        self.saved, self.saved_at = self.progress, time.monotonic()
        self.listener.saved(self.progress.iteration, path)

    def outcome(self, start: int) -> Outcome:
        done = self.progress
        return Outcome(
            run=self.run.path,
            iterations=done.iteration,
            ran=done.iteration - start,
            test=done.test,
            best=done.best,
            best_iteration=done.best_iteration,
            skipped=done.skipped,
        )
