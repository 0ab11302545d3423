"""Threshold: which cells are above a bound."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.fields import Real
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, Types, Values, numbers
from netspec.ir.types import TensorType


class Threshold(Layer):
    """y = 1 where x > threshold, else 0; it has no gradient (Caffe, `threshold_layer.cpp`)."""

    keyword: ClassVar = "threshold"
    caffe: ClassVar = CaffeType("Threshold", "threshold_param", "THRESHOLD")
    in_place: ClassVar = True
    counts_labels: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 10 }
        threshold { threshold: 0.5 }
    """

    threshold: Real = 0.0
    """The bound, which is not above itself."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        return (x,)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), op = bottoms, context.op
        return (op.Cast(op.Greater(x, op.scalar(self.threshold)), to="float32"),)
