"""The training loop: steps, log rows, tests and checkpoints, each where the iteration says."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import isfinite
from typing import Any

from numpy.typing import NDArray

from netspec.diagnostics import UsageError
from netspec.ir.schedule import Course, learning_rate, warming_up
from netspec.ir.sections import Solver
from netspec.training.due import Due
from netspec.training.listener import Listener
from netspec.training.logs.log import Log
from netspec.training.metrics import values
from netspec.training.outcome import Diverged, Outcome, Stopped
from netspec.training.parts import Batches, Diagnose, Executor
from netspec.training.rollback import rolled_back
from netspec.training.runs.checkpoint import Progress
from netspec.training.runs.results import write_results
from netspec.training.runs.run import Model, Run
from netspec.training.runs.snapshot import Snapshot
from netspec.training.signals import CutShort, Signals
from netspec.training.stopping import (
    check_length,
    check_tested,
    ending,
    judged,
    reopened,
    why_ended,
)

_PATIENCE = 3
"""Updates that may be skipped in a row before the training counts as diverged."""


def train(
    executor: Executor,
    batches: Batches,
    solver: Solver,
    run: Run,
    *,
    length: int,
    resume: Progress | None = None,
    listener: Listener | None = None,
    model: Model | None = None,
    tests: bool = True,
    snapshot: Snapshot | None = None,
    diagnose: Diagnose | None = None,
    keep_start: bool = False,
    save_seconds: float = 600.0,
    complete: Callable[[Outcome], Outcome] = lambda outcome: outcome,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Train up to `length` iterations in a locked run, and return how it ended.

    Rows are logged every `display` iterations and with each test; a test is due at the end and
    every `test_interval` iterations, or when an epoch is through, and before the first iteration
    with `test_initialization`; a checkpoint follows each test and each `snapshot` iterations, and
    comes when the last is `save_seconds` old. None of this changes the weights, so a run that was
    killed and resumed ends with the same bytes. `tests` tells whether there is test data; `model`
    makes the ONNX file of the trained state; `snapshot` is called before the checkpoints that the
    solver's fields of that name ask for, again if a killed run comes by again; `complete` puts into
    the outcome what the loop does not see. `diagnose` says why an iteration of these samples is not
    finite. With `keep_start` there is a checkpoint before the first step: it begins with more than
    the spec says.

    The end comes before `length` if the solver's `early_stopping` or `max_time` wants it. Three
    updates in a row that were not finite are a divergence: the training goes back to the last good
    checkpoint, as often as `rollback` says, and then raises Diverged. Stopped is raised when
    SIGINT, SIGTERM or SIGUSR1 came (heeded in the main thread only): the batch is finished, an
    iteration of several is not, nor is a test, and the state is saved. A second signal raises
    KeyboardInterrupt where it falls.
    """
    assert run.locked
    listener = listener or Listener()
    progress = resume or Progress(seed=solver.random_seed, spec=run.spec_hash())
    progress = reopened(progress, solver, length)
    check_tested(solver, tests, run.path)
    if progress.seed != solver.random_seed:
        was = f"was started with random_seed {progress.seed}"
        raise UsageError(f"{run.path}: {was}, not {solver.random_seed}")
    check_length(progress.iteration, length, run.path)
    with Signals() as signals:
        listener.started(progress.iteration, length, run.path)
        loop = _Loop(
            executor, batches, solver, run, length, progress, listener, signals, tests, snapshot,
            diagnose, keep_start or solver.rollback > 0, save_seconds, clock,
        )  # fmt: skip
        loop.run_to_end()
        state = executor.state()
        if not state.finite:
            raise Diverged(loop.why_diverged())
        write_results(run, state, loop.progress, model, listener.warned)
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
    diagnose: Diagnose | None
    keep_start: bool
    save_seconds: float
    clock: Callable[[], float]

    def __post_init__(self) -> None:
        self.saved = None if self.progress.anchor is None else self.progress  # or it would be there
        self.saved_at = self.clock()
        self.started = self.saved_at - self.progress.seconds
        self.enter()

    def enter(self) -> None:
        """Go on from `progress`."""
        self.log = Log(self.run.log, keep=self.progress.recorded, warn=self.listener.warned)
        self.due = Due(self.solver, self.end, self.batches.epoch)

    @property
    def end(self) -> int:
        """Iterations after which the training ends, as far as is known by now."""
        return self.progress.ending.iteration if self.progress.ending else self.length

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
            if not self.complete:
                self.step()
            elif self.sound:
                return
            else:
                self.fall_back()

    @property
    def course(self) -> Course:
        epoch = Fraction(self.batches.samples, self.batches.batch_size)
        return Course(self.length, epoch, self.progress.plateau.reductions)

    @property
    def complete(self) -> bool:
        return self.progress.recorded >= self.end

    @property
    def sound(self) -> bool:
        """Whether the last update and the last test were finite."""
        return not self.progress.bad and isfinite(self.progress.test.get("loss", 0.0))

    @property
    def save_due(self) -> bool:
        late = self.clock() - self.saved_at >= self.save_seconds
        done = self.progress.iteration
        return self.starts or self.due.checkpoint(done) or (late and done > 0)

    @property
    def starts(self) -> bool:
        """Whether this is a start that is to be kept, and is not yet."""
        return self.keep_start and self.progress.anchor is None

    def rate(self, iteration: int) -> float:
        """The learning rate of an iteration, counted from 0."""
        rate = learning_rate(self.solver, iteration, self.course)
        return rate * self.progress.rate_factor

    def indices(self, iteration: int) -> NDArray[Any]:
        """The samples of an iteration; a rollback may have left batches out."""
        return self.batches.indices(iteration + self.progress.left_out)

    def step(self) -> None:
        """One iteration, and whether it was a good one."""
        before = self.progress
        rate = self.rate(before.iteration)
        samples = self.indices(before.iteration)
        try:
            result = self.executor.step(before.iteration, samples, rate, lambda: self.signals.stop)
        except CutShort:
            return  # and with it the training, as after a whole step
        done = before.iteration + 1
        change: dict[str, Any]
        if result.finite:
            averages, loss = before.averages.add(values(result)), float(result.loss)
            change = {"averages": averages, "bad": 0, "last_loss": loss}
            if self.solver.average_loss is not None:
                change["recent"] = (*before.recent, loss)[-self.solver.average_loss :]
        else:
            bad = before.bad if result.sought else before.bad + 1
            change = {"bad": bad, "skipped": before.skipped + 1}
        self.progress = before.model_copy(update={"iteration": done, **change})
        if not result.finite:
            self.listener.skipped(done)
        self.listener.progressed(done, self.smoothed.get("loss", result.loss), rate)
        if self.progress.bad >= _PATIENCE:
            self.fall_back()
        self.end_early()

    def end_early(self) -> None:
        """Note that the training ends here, if a field of the solver wants it."""
        found = ending(self.progress, self.solver, self.length, self.clock() - self.started)
        if found != self.progress.ending:
            self.progress = self.progress.model_copy(update={"ending": found})
            self.due = Due(self.solver, self.end, self.batches.epoch)

    def fall_back(self) -> None:
        """Go back to the last good checkpoint, or raise Diverged."""
        failed, why = self.progress, self.why_diverged()
        found = rolled_back(self.run.checkpoints, failed, self.solver) if failed.bad else None
        if found is None:
            raise Diverged(why)
        self.executor.restore(found.state)
        self.progress = self.saved = found.progress
        self.enter()
        self.listener.rolled_back(failed.iteration, found.progress.iteration, why)

    @property
    def smoothed(self) -> dict[str, float]:
        """The loss as `average_loss` wants it, if it does: a mean of the last ones (Caffe,
        `Solver::UpdateSmoothedLoss`)."""
        recent = self.progress.recent
        return {"loss": sum(recent) / len(recent)} if recent else {}

    def why_diverged(self) -> str:
        done = self.progress
        first, last = done.iteration - done.bad, done.last_loss
        what, seen = f"loss or gradients not finite from iteration {first + 1} on", ""
        if not done.bad:
            lost = "weights are" if isfinite(done.test.get("loss", 0.0)) else "test loss is"
            what = f"the {lost} not finite after iteration {done.iteration}"
        elif self.diagnose is not None:  # no update came between, so it happens again
            seen = self.diagnose(first, self.indices(first))
        saved = self.run.checkpoints.paths()
        return (
            f"{self.run.path}: diverged: {what}; "
            + ("no loss was finite" if last is None else f"the last finite loss was {last:.6g}")
            + (f"; {saved[-1].name} is kept" if saved else "; there is no checkpoint yet")
            + "; a lower base_lr may help"
            + (f"\n{seen}" if seen else "")
        )

    def record(self) -> None:
        """The log's row and the test of this iteration, if they are due and not yet there."""
        done = self.progress.iteration
        if done <= self.progress.recorded:
            return
        rate = self.rate(max(done - 1, 0))  # a test may cut it
        test = self.test() if self.tests and self.due.test(done) else {}
        if test is None:
            return  # a signal came; the test is run when the training goes on
        if test:
            self.end_early()
        if self.due.line(done):
            epoch = done * self.batches.batch_size / self.batches.samples
            train = self.progress.averages.means() | self.smoothed
            self.log.append(done, epoch=epoch, rate=rate, train=train, test=test)
            self.listener.recorded(done, epoch, rate, train)
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
        # The last metric is that of the main chain: heads stand before its end.
        score = next(reversed(metrics.values()), scores["loss"])
        change = judged(self.progress, self.solver, score, higher=bool(metrics))
        change["plateau"] = self.progress.plateau.tested(
            score,
            self.solver,
            higher=bool(metrics),
            warming_up=warming_up(self.solver, self.progress.iteration, self.course),
        )
        self.progress = self.progress.model_copy(update={"test": scores, **change})
        self.listener.tested(self.progress.iteration, scores)
        return scores

    def save(self) -> None:
        """A checkpoint of now, unless there is one; a snapshot before it, if it is due."""
        if self.saved == self.progress:
            return
        self.log.sync()
        self.listener.saving(self.progress.iteration)
        state = self.executor.state()
        if self.snapshot is not None and self.due.snapshot(self.progress.iteration):
            self.snapshot(state, self.progress.iteration)
        now = self.clock()
        change: dict[str, Any] = {"seconds": now - self.started}
        due = self.starts or self.due.checkpoint(self.progress.iteration)
        if due and not self.progress.bad and state.finite:
            change["anchor"] = self.progress.iteration
        self.progress = self.progress.model_copy(update=change)
        path = self.run.checkpoints.save(state, self.progress)
        self.saved, self.saved_at = self.progress, now
        self.listener.saved(self.progress.iteration, path)

    def outcome(self, start: int) -> Outcome:
        done = self.progress
        return Outcome(
            run=self.run.path,
            iterations=done.iteration,
            ran=done.iteration - start,
            test=done.test,
            tests=self.tests,
            best=done.best,
            best_iteration=done.best_iteration,
            skipped=done.skipped,
            higher=len(done.test) > 1,
            seconds=done.seconds,
            ending=why_ended(done),
        )
