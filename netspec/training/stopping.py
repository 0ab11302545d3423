"""Ends before the planned one: a score that no longer improves, and a time that is over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from netspec.diagnostics import UsageError, printable
from netspec.ir.duration import spoken
from netspec.ir.sections import Solver
from netspec.training.metrics import improves
from netspec.training.runs.checkpoint import Ending, Progress


def check_tested(solver: Solver, tests: bool, where: Path) -> None:
    """UsageError if the end hangs on tests, and there are none."""
    if solver.early_stopping is not None and not tests:
        raise UsageError(f"{printable(str(where))}: early_stopping needs test data")


def check_length(done: int, length: int, where: Path) -> None:
    """UsageError if more is done than there is to do."""
    if done > length:
        raise UsageError(f"{printable(str(where))}: {done} iterations are done, beyond {length}")


def judged(progress: Progress, solver: Solver, score: float, *, higher: bool) -> dict[str, Any]:
    """What a test's score changes of the progress."""
    change: dict[str, Any] = {}
    if improves(score, progress.best, higher=higher):
        change |= {"best": score, "best_iteration": progress.iteration}
    if solver.early_stopping is None:
        return change
    if improves(score, progress.goal, higher=higher, by=solver.min_delta):
        return {**change, "goal": score, "stalled": 0}
    return {**change, "stalled": progress.stalled + 1}


def ending(progress: Progress, solver: Solver, length: int, seconds: float) -> Ending | None:
    """Why the training ends here, `seconds` old, if it does so before its planned length."""
    done = progress.iteration
    if progress.ending is not None or not 0 < done < length:
        return progress.ending
    if solver.early_stopping is not None and progress.stalled >= solver.early_stopping:
        return Ending(reason="early_stopping", iteration=done, length=length)
    if solver.max_time is not None and seconds >= solver.max_time:
        return Ending(reason="max_time", iteration=done, length=length)
    return None


def reopened(progress: Progress, solver: Solver, length: int) -> Progress:
    """The progress without an ending that no longer holds: there is more time, or more to do."""
    end = progress.ending
    if end is None:
        return progress
    longer = length != end.length
    later = end.reason == "max_time" and (
        solver.max_time is None or progress.seconds < solver.max_time
    )
    if not longer and not later:
        return progress
    return progress.model_copy(update={"ending": None, "stalled": 0})


def why_ended(progress: Progress) -> str:
    """For people; empty if the training went its whole length."""
    end = progress.ending
    if end is None:
        return ""
    at = f"ended after iteration {end.iteration:,} of {end.length:,}"
    if end.reason == "max_time":
        return f"{at}: max_time is over, {spoken(progress.seconds)}"
    return f"{at}: early_stopping, {progress.stalled} tests without a better score"
