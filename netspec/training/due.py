"""What is due after an iteration: a test, a line of the log, a snapshot, a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from netspec.ir.sections import Solver


@dataclass(frozen=True, slots=True)
class Due:
    """As the solver's fields say it, by the number of iterations done."""

    solver: Solver
    length: int
    """Iterations in all."""
    epoch: Callable[[int], int]
    """The epoch of an iteration."""

    def test(self, done: int) -> bool:
        """Every `test_interval` iterations, or when an epoch is through; and at both ends."""
        interval = self.solver.test_interval
        if interval == 0:
            return False
        if done == self.length:
            return True
        if done == 0:
            return self.solver.test_initialization
        if interval is not None:
            return done % interval == 0
        return self.epoch(done) != self.epoch(done - 1)

    def line(self, done: int) -> bool:
        """Every `display` iterations, with each test, and at the end."""
        return done == self.length or self.test(done) or _every(self.solver.display, done)

    def snapshot(self, done: int) -> bool:
        """Every `snapshot` iterations, and at the end unless told otherwise."""
        ends = done == self.length and self.solver.snapshot_after_train
        return ends or _every(self.solver.snapshot, done)

    def checkpoint(self, done: int) -> bool:
        """With each test and each snapshot, and at the end."""
        return done == self.length or self.test(done) or self.snapshot(done)


def _every(interval: int, done: int) -> bool:
    """Whether a whole number of intervals is through; 0 stands for never."""
    return bool(interval and done and done % interval == 0)
