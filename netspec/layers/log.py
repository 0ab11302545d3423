"""Log: the logarithm of each cell."""

from __future__ import annotations

from math import log
from typing import ClassVar

from netspec.ir.fields import Base, Real
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, ShapeError, Types, Values, numbers
from netspec.ir.phrases import affine
from netspec.ir.types import TensorType


class Log(Layer):
    """y = log(shift + scale · x) / log(base) (Caffe, `log_layer.cpp`)."""

    keyword: ClassVar = "log"
    caffe: ClassVar = CaffeType("Log", "log_param")
    in_place: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 10 }
        relu
        log { base: 2  shift: 1 }
    """

    base: Base = -1.0
    """What 1 is the logarithm of: above 0 and not 1, or -1 for e."""
    scale: Real = 1.0
    """What x is multiplied by."""
    shift: Real = 0.0
    """What is then added."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        if self.base == 1:
            raise ShapeError("there is no logarithm to base 1", field="base")
        if self.scale == 0 and self.shift <= 0:
            raise ShapeError(
                f"with scale: 0 every cell is the logarithm of {self.shift:g}", field="scale"
            )
        return (x,)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), op = bottoms, context.op
        y = op.Log(affine(op, x, self.scale, self.shift))
        return (y if self.base == -1 else affine(op, y, 1 / log(self.base), 0),)
