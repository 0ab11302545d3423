"""Loss and metrics: of a step, of a test, and their running means between two rows of the log."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Protocol

from pydantic import BaseModel, ConfigDict


class Scores(Protocol):
    """What the net gave, on a batch or on the test data."""

    @property
    def loss(self) -> float:
        """The total: each loss times its weight."""
        ...

    @property
    def losses(self) -> Mapping[str, float]:
        """Each loss by the name of its top."""
        ...

    @property
    def metrics(self) -> Mapping[str, float]: ...


class Step(Scores, Protocol):
    """What one step gave: the values on its batch, before the update."""

    @property
    def finite(self) -> bool:
        """Whether loss and gradients were; if not, the update was skipped."""
        ...

    @property
    def sought(self) -> bool:
        """Whether it was skipped in the search for a scale of the loss, as half precision does."""
        ...


class Averages(BaseModel):
    """Sums of what each step reported, and of how many steps.

    Plain data: a checkpoint carries it, so that a resumed run logs the means that it would have
    logged uninterrupted.
    """

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", ser_json_inf_nan="constants"
    )

    count: int = 0
    sums: dict[str, float] = {}

    def add(self, values: Mapping[str, float]) -> Averages:
        """With one step more."""
        sums = {name: self.sums.get(name, 0.0) + float(value) for name, value in values.items()}
        return Averages(count=self.count + 1, sums=sums)

    def means(self) -> dict[str, float]:
        """By name; nothing if there was no step."""
        return {name: total / self.count for name, total in self.sums.items()}


def values(scores: Scores) -> dict[str, float]:
    """The total as `loss`, the single losses where there are several, and the metrics."""
    several = scores.losses if len(scores.losses) > 1 else {}
    named = {**several, **scores.metrics}
    return {"loss": scores.loss} | {n if n != "loss" else "loss_": v for n, v in named.items()}


def improves(score: float, best: float | None, *, higher: bool, by: float = 0.0) -> bool:
    """Whether a score beats the best so far by more than `by`; one that is not finite does not."""
    if not isfinite(score):
        return False
    return best is None or (score - by > best if higher else score + by < best)
