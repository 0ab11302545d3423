"""Who hears of a training while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from netspec.caffe.match import Match
from netspec.training.outcome import Outcome


class Listener:
    """Is told what happens; every method may be overridden, and does nothing unless it is."""

    def matched(self, match: Match) -> None:
        """The weights that a new run begins with are read."""

    def tuning(self, done: int, total: int) -> None:
        """After each kind of operator that was measured, before the training starts."""

    def tuned(self, measured: int, changed: int, left: int) -> None:
        """Kinds of operators: how many, those computed otherwise for it, those out of time."""

    def started(self, iteration: int, length: int, run: Path) -> None:
        """Before the first step; `iteration` are already done."""

    def progressed(self, iteration: int, loss: float, rate: float) -> None:
        """After each step, with the iterations now done; `loss` is what `average_loss` asks for."""

    def skipped(self, iteration: int) -> None:
        """After a step whose update was left out, since something was not finite."""

    def recorded(
        self, iteration: int, epoch: float, rate: float, train: Mapping[str, float]
    ) -> None:
        """With each row of the log: the means of `loss` and the training metrics since the last.

        Nothing in `train` if no step since was finite; after the test, if one is due.
        """

    def saving(self, iteration: int) -> None:
        """Before a checkpoint: what should not be lost when it survives goes to the disk now."""

    def tested(self, iteration: int, values: Mapping[str, float]) -> None:
        """After a test: `loss` and the metrics."""

    def saved(self, iteration: int, path: Path) -> None:
        """After a checkpoint is safe."""

    def rolled_back(self, iteration: int, to: int, why: str) -> None:
        """After a divergence: of `iteration` done, those behind `to` are taken back."""

    def noted(self, message: str) -> None:
        """What was chosen for the user, and why."""

    def warned(self, message: str) -> None:
        """Something the user should know, such as a damaged checkpoint."""

    def finished(self, outcome: Outcome) -> None:
        """The final weights are written."""
