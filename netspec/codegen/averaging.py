"""A running mean of the weights beside them, which is tested and written in their place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from netspec.ir.graph import Ops, Value
from netspec.ir.sections import Solver


@dataclass(frozen=True, slots=True)
class Averaging:
    """w̄' = d·w̄ + (1 - d)·w', as w̄ + (1 - d)·(w' - w̄), after each update.

    Polyak & Juditsky 1992, with the exponential window of `tf.train.ExponentialMovingAverage` and
    of PyTorch's `get_ema_multi_avg_fn`; w̄ begins at w. The running statistics of batch norm are
    averaged with the same d, as timm's ModelEmaV2 does: they go back some ten batches, to weights
    that w̄ will reach only later, and their mean goes back as far as that of the weights.
    """

    SCALAR: ClassVar = "fresh"
    """What an update graph calls 1 - d, which it is fed in each iteration."""

    decay: float
    warmup: bool

    @classmethod
    def of(cls, solver: Solver) -> Averaging | None:
        """What a solver section asks for, if it does."""
        return cls(solver.ema_decay, solver.ema_warmup) if solver.ema_decay else None

    def fresh(self, iteration: int) -> float:
        """1 - d of an iteration, counted from 0: with warm-up d is (1 + t) / (10 + t) at most."""
        risen = (1 + iteration) / (10 + iteration)
        return 1 - (min(self.decay, risen) if self.warmup else self.decay)

    def fold(self, op: Ops, average: Value, new: Value, fresh: Value) -> Value:
        """The average with a new value in it; it reads the old one last, and so may overwrite."""
        moved: Value = op.Add(average, op.Mul(op.Sub(new, average), fresh))
        return moved
