"""Sigmoid: any number becomes one between 0 and 1."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, Types, Values, numbers
from netspec.ir.types import TensorType


class Sigmoid(Layer):
    """y = 1 / (1 + exp(-x)) (Caffe, `sigmoid_layer.cpp`)."""

    keyword: ClassVar = "sigmoid"
    caffe: ClassVar = CaffeType("Sigmoid", "sigmoid_param", "SIGMOID")
    in_place: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 10 }
        sigmoid
    """

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        return (x,)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,) = bottoms
        return (context.op.Sigmoid(x),)
