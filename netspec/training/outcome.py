"""How a training ends: well, by a signal, or not in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from netspec.diagnostics import NetspecError


@dataclass(frozen=True)
class Outcome:
    """How a training ended."""

    run: Path
    iterations: int
    """In all; with `ran` = 0 the run had been finished before."""
    ran: int
    """In this process."""
    test: dict[str, float]
    """`loss` and the metrics of the last test; empty without any under the present spec."""
    best: float | None
    best_iteration: int | None
    skipped: int
    """Updates left out because something was not finite."""
    waited: float | None = None
    """Seconds that a step waited for its samples, in the mean; None if all were in memory."""
    bad_samples: int = 0
    """Samples that could not be read, and were passed over."""
    higher: bool = True
    """Whether a higher score is the better one: it is a metric, not a loss."""
    seconds: float = 0.0
    """Spent on training, in all processes."""
    tests: bool = True
    """Whether there are test data."""
    ending: str = ""
    """Why it ended before the planned length; empty if it did not."""


class Diverged(NetspecError):
    """Loss or gradients were not finite several times in a row."""


class Stopped(NetspecError):
    """A signal ended the training after a checkpoint; it can go on from there."""

    exit_code = 75

    def __init__(self, run: Path, iteration: int) -> None:
        super().__init__(f"stopped after iteration {iteration}; --resume goes on: {run}")
        self.run = run
        self.iteration = iteration
