"""ReLU: negative cells become zero."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.fields import Real
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, Types, Values, numbers
from netspec.ir.types import TensorType


class ReLU(Layer):
    """y = max(x, 0) + negative_slope · min(x, 0)."""

    keyword: ClassVar = "relu"
    caffe: ClassVar = CaffeType("ReLU", "relu_param", "RELU")
    in_place: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 10 }
        relu { negative_slope: 0.1 }
    """

    negative_slope: Real = 0.0
    """Slope below zero."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        return (x,)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), op = bottoms, context.op
        return (op.LeakyRelu(x, alpha=self.negative_slope) if self.negative_slope else op.Relu(x),)
