"""Lots: uniform numbers that the host feeds, and what is drawn with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log

from netspec.codegen.builder import Builder
from netspec.ir.graph import Value
from netspec.ir.ranges import Range
from netspec.ir.types import TensorType


@dataclass
class Lots:
    """The lots of one graph's images: those of a name are the same for every input."""

    op: Builder
    randoms: dict[str, Value] = field(default_factory=dict)
    """What the host has to feed, uniform in [0, 1), by name."""

    def uniform(self, kind: str, batch: int, columns: int = 1) -> Value:
        """Uniform numbers in [0, 1), N x columns."""
        name = f"transform#{kind}"
        if name not in self.randoms:
            shape = TensorType((batch, columns))
            self.randoms[name] = self.op.input(f"random:{name}", shape)
        return self.randoms[name]

    def between(self, kind: str, span: Range, batch: int, columns: int = 1) -> Value:
        """low + u · (high - low), N x columns; a constant if there is one value alone."""
        op, (low, high) = self.op, span
        if low == high:
            return op.scalar(low)
        drawn = op.Mul(self.uniform(kind, batch, columns), op.scalar(high - low))
        shifted: Value = op.Add(drawn, op.scalar(low))
        return shifted

    def factor(self, kind: str, span: Range, batch: int) -> Value:
        """low · (high / low)^u, N x 1: its logarithm is uniform."""
        if span[0] == span[1]:
            return self.op.scalar(span[0])
        drawn: Value = self.op.Exp(self.between(kind, (log(span[0]), log(span[1])), batch))
        return drawn

    def sign(self, kind: str, batch: int) -> Value:
        """-1 for every other image, else 1: N x 1."""
        op = self.op
        negative = op.Less(self.uniform(kind, batch), op.scalar(0.5))
        sign: Value = op.Where(negative, op.scalar(-1), op.scalar(1))
        return sign

    def place(self, kind: str, places: Value, batch: int) -> Value:
        """⌊u · places⌋, N x 2; for a u of at most 1 - 2^-24 it never rounds up to `places`."""
        floor: Value = self.op.Floor(self.op.Mul(self.uniform(kind, batch, 2), places))
        return floor
