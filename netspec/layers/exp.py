"""Exp: a base to the power of each cell."""

from __future__ import annotations

from math import log
from typing import ClassVar

from netspec.ir.fields import Base, Real
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, Types, Values, numbers
from netspec.ir.phrases import affine
from netspec.ir.types import TensorType


class Exp(Layer):
    """y = base^(shift + scale · x) (Caffe, `exp_layer.cpp`)."""

    keyword: ClassVar = "exp"
    caffe: ClassVar = CaffeType("Exp", "exp_param", "EXP")
    in_place: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 10 }
        exp { base: 2  scale: 0.5 }
    """

    base: Base = -1.0
    """What is raised to a power: above 0, or -1 for e."""
    scale: Real = 1.0
    """What x is multiplied by."""
    shift: Real = 0.0
    """What is then added."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        return (x,)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), op = bottoms, context.op
        rate = 1.0 if self.base == -1 else log(self.base)
        return (op.Exp(affine(op, x, self.scale * rate, self.shift * rate)),)
