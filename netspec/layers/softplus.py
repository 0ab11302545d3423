"""Softplus: a ReLU without the corner."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, Types, Values, numbers
from netspec.ir.types import TensorType


class Softplus(Layer):
    """y = log(1 + exp(x)), as max(x, 0) + log(1 + exp(-|x|)) (Caffe, `bnll_layer.cpp`).

    Nothing overflows: a large x is its own result, and one far below zero gives 0.
    """

    keyword: ClassVar = "softplus"
    caffe: ClassVar = CaffeType("BNLL", v1="BNLL")
    in_place: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 10 }
        softplus
    """

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        return (x,)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,) = bottoms
        return (context.op.Softplus(x),)
