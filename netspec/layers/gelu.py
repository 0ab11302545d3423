"""GELU: each cell times the probability that a normal draw is below it."""

from __future__ import annotations

from math import pi, sqrt
from typing import ClassVar, Literal

from netspec.ir.graph import Value
from netspec.ir.layer import Context, Layer, Types, Values, numbers
from netspec.ir.types import TensorType


class GELU(Layer):
    """y = x · Φ(x), Φ(x) = (1 + erf(x / √2)) / 2 (Hendrycks & Gimpel 2016, arXiv:1606.08415).

    `approximate: TANH` takes Φ(x) = (1 + tanh(√(2/π) · (x + 0.044715 · x³))) / 2.
    """

    keyword: ClassVar = "gelu"
    in_place: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 10 }
        gelu { approximate: TANH }
    """

    approximate: Literal["NONE", "TANH"] = "NONE"
    """Whether Φ is exact, or the formula of GPT-2 and BERT, which is off by 0.0005 at most."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        return (x,)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), op = bottoms, context.op
        if self.approximate == "NONE":
            odd = op.Erf(op.Mul(x, op.scalar(sqrt(1 / 2))))
        else:
            bend = op.Add(op.Mul(op.Mul(x, x), op.scalar(0.044715)), op.scalar(1.0))
            odd = op.Tanh(op.Mul(op.Mul(x, bend), op.scalar(sqrt(2 / pi))))
        half = op.Mul(x, op.scalar(0.5))
        return (op.Add(half, op.Mul(half, odd)),)
