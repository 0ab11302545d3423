"""The learning rates at which a net learns: a training whose rate grows until it diverges.

Smith, "Cyclical Learning Rates for Training Neural Networks", 2017, section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

import numpy as np

from netspec.diagnostics import UsageError
from netspec.training.execution.executor import Executor
from netspec.training.execution.machine import Machine
from netspec.training.setup.experiment import Experiment

_MOMENTUM = 0.9
"""Of the mean that smooths the losses."""
_BLOWN = 4.0
"""Times the lowest loss: nothing is learned any more."""


@dataclass(frozen=True, slots=True)
class Point:
    """One iteration."""

    rate: float
    loss: float
    smoothed: float
    """The mean of the losses so far, the latest counting most."""


@dataclass(frozen=True)
class RangeTest:
    """The losses over the rates, and what they suggest."""

    points: tuple[Point, ...]
    blown: float | None
    """The rate at which the loss was four times its lowest, or not finite; None if it never was."""

    @property
    def lowest(self) -> Point:
        return min(self.points, key=lambda point: point.smoothed)

    @property
    def steepest(self) -> Point | None:
        """Where the loss fell fastest, per factor of the rate; None if it never fell.

        Before its lowest point, and not among the first, of which little is known.
        """
        before = self.points[: self.points.index(self.lowest) + 1]
        start = len(self.points) // 10
        if len(before) < start + 3:
            return None
        losses, rates = ([getattr(p, n) for p in before] for n in ("smoothed", "rate"))
        slopes = np.gradient(np.array(losses), np.log(rates))[start:]
        at = int(np.argmin(slopes))
        return before[start + at] if slopes[at] < 0 else None

    @property
    def suggestion(self) -> float | None:
        """The rate of the steepest fall, at most a tenth of that at which it blows up."""
        if self.steepest is None:
            return None
        limit = self.steepest.rate if self.blown is None else self.blown / 10
        return min(self.steepest.rate, limit)


def range_test(
    experiment: Experiment,
    machine: Machine,
    *,
    first: float,
    last: float,
    iterations: int,
    told: Callable[[int, float, float], None] = lambda *_: None,
) -> RangeTest:
    """Train from the initial weights at first · (last/first)^(i/(iterations - 1)), i = 0, 1, …

    It ends before `last` where the loss blows up. `told` hears iterations, smoothed loss and rate.
    """
    if not 0 < first < last or not isfinite(last):
        raise UsageError(f"the learning rate is to grow, and not from {first:g} to {last:g}")
    executor = Executor.of(experiment, machine)
    batches, points = experiment.batches, list[Point]()
    mean, lowest = 0.0, float("inf")
    for i in range(iterations):
        rate = first * (last / first) ** (i / (iterations - 1))
        result = executor.step(i, batches.indices(i), rate)
        if result.sought:
            continue  # the loss's scale was too large, and says nothing of the rate
        if not result.finite:
            return RangeTest(tuple(points), rate)
        mean = _MOMENTUM * mean + (1 - _MOMENTUM) * result.loss
        smoothed = mean / (1 - _MOMENTUM ** (len(points) + 1))
        points.append(Point(rate, result.loss, smoothed))
        told(i + 1, smoothed, rate)
        lowest = min(lowest, smoothed)
        if smoothed > _BLOWN * lowest:
            return RangeTest(tuple(points), rate)
    return RangeTest(tuple(points), None)
