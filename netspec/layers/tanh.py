"""Hyperbolic tangent: any number becomes one between -1 and 1."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, Types, Values, numbers
from netspec.ir.types import TensorType


class TanH(Layer):
    """y = (exp(2x) - 1) / (exp(2x) + 1) (Caffe, `tanh_layer.cpp`)."""

    keyword: ClassVar = "tanh"
    caffe: ClassVar = CaffeType("TanH", "tanh_param", "TANH")
    in_place: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 10 }
        tanh
    """

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        return (x,)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,) = bottoms
        return (context.op.Tanh(x),)
