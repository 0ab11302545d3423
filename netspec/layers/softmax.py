"""Softmax: scores become a probability distribution."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.fields import Int
from netspec.ir.graph import Value
from netspec.ir.layer import (
    CaffeType,
    Context,
    Layer,
    Types,
    Values,
    axis_of,
    numbers,
    over_batch,
)
from netspec.ir.types import TensorType


class Softmax(Layer):
    """y[c] = exp(x[c]) / Σ exp(x[j]) along `axis` (Caffe, `softmax_layer.cpp`)."""

    keyword: ClassVar = "softmax"
    caffe: ClassVar = CaffeType("Softmax", "softmax_param", "SOFTMAX")
    reuses_name: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 10 }
        softmax "prob"
    """

    axis: Int = 1
    """The axis that sums to one; the batch is axis 0."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        axis_of(self.axis, x, first=0)
        return (x,)

    def lints(self, bottoms: Types) -> tuple[str, ...]:
        mixed = over_batch(self.axis, bottoms[0])
        return ("axis 0 is the batch: its samples sum to one together",) if mixed else ()

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), op = bottoms, context.op
        return (op.Softmax(x, axis=axis_of(self.axis, x.type, first=0)),)
