"""Absolute value: every cell loses its sign."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, Types, Values, numbers
from netspec.ir.types import TensorType


class Abs(Layer):
    """y = |x| (Caffe, `absval_layer.cpp`)."""

    keyword: ClassVar = "abs"
    caffe: ClassVar = CaffeType("AbsVal", v1="ABSVAL")
    example: ClassVar = """
        input "data" { shape: 10 }
        abs
    """

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        return (x,)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,) = bottoms
        return (context.op.Abs(x),)
