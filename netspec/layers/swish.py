"""Swish: each cell is damped by its own sigmoid."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.fields import Real
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, Types, Values, numbers
from netspec.ir.phrases import scale
from netspec.ir.types import TensorType


class Swish(Layer):
    """y = x / (1 + exp(-beta · x)); SiLU where beta = 1 (Ramachandran et al. 2017, 1710.05941)."""

    keyword: ClassVar = "swish"
    caffe: ClassVar = CaffeType("Swish", "swish_param")
    in_place: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 10 }
        swish
    """

    beta: Real = 1.0
    """How steep the sigmoid is: 0 halves x, a large one makes a ReLU."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        return (x,)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), op = bottoms, context.op
        return (op.Mul(x, op.Sigmoid(scale(op, x, self.beta))),)
