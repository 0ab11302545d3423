"""Dynamic loss scaling: gradients that float16 would lose are computed many times as large."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from netspec.codegen.builder import Builder
from netspec.codegen.update import UpdateStep, WeightGroup, assert_in_place
from netspec.ir.graph import Ops, Value
from netspec.ir.sections import Solver
from netspec.ir.types import TensorType

_CEILING = 2.0**127
"""The largest power of two in float32."""


@dataclass(frozen=True, slots=True)
class LossScaling:
    """The losses' cotangents are multiplied by S, the gradients of weights divided by it.

    An update that is not finite is left out, and S halves; after `growth_interval` good ones in a
    row it doubles (`torch.amp.GradScaler`; Micikevicius et al., "Mixed Precision Training", 2018).
    S is a power of two, so that nothing is rounded by it.
    """

    STATE: ClassVar = ("scale", "good")
    """S, and how many updates in a row were good since it changed."""
    FLOOR: ClassVar = 1.0
    """Where S ends: gradients that float16 does not hold as they are have diverged."""

    initial: float
    growth_interval: int

    @classmethod
    def of(cls, solver: Solver) -> LossScaling | None:
        """What a solver section asks for, if it does."""
        if solver.precision == "FP32":
            return None
        return cls(solver.loss_scale, solver.growth_interval)

    def update_graph(self) -> UpdateStep:
        """What follows an update, or its being left out, in place.

        finite, S, n → S/2, 0                        if not finite
                       2·S, 0                        if n + 1 = growth_interval
                       S, n + 1                      else
        """
        op = Builder()
        finite, scale, good = (op.input(n, TensorType(())) for n in ("finite", *self.STATE))
        sound = op.Cast(finite, to="bool")
        counted = op.Add(good, op.scalar(1))
        due = op.GreaterOrEqual(counted, op.scalar(self.growth_interval))
        grown = op.Where(due, self._bounded(op, scale, 2), scale)
        row = op.Where(due, op.scalar(0), counted)
        shrunk = self._bounded(op, scale, 0.5)
        aliases: Mapping[Value, Value] = {
            op.Where(sound, grown, shrunk): scale,
            op.Where(sound, row, op.scalar(0)): good,
        }
        graph = op.graph(tuple(aliases), name="scaling")
        assert_in_place(graph, aliases)
        names = {new: f"next:{old.name}" for new, old in aliases.items()}
        return UpdateStep(graph, names, aliases)

    @staticmethod
    def division_graph(groups: Sequence[WeightGroup]) -> UpdateStep:
        """What comes before an update, in place: g → g/S for each `gradients:<group>`."""
        op = Builder()
        scale = op.input("scale", TensorType(()))
        aliases: dict[Value, Value] = {}
        for group in groups:
            g = op.input(f"gradients:{group.name}", TensorType((group.numel,)))
            aliases[op.Div(g, scale)] = g
        graph = op.graph(tuple(aliases), name="division")
        assert_in_place(graph, aliases)
        return UpdateStep(graph, {new: f"next:{old.name}" for new, old in aliases.items()}, aliases)

    def _bounded(self, op: Ops, scale: Value, factor: float) -> Value:
        product = op.Mul(scale, op.scalar(factor))
        least = op.Max(product, op.scalar(self.FLOOR))
        bounded: Value = op.Min(least, op.scalar(_CEILING))
        return bounded
