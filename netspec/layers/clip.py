"""Clip: cells are held between two bounds."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.fields import Real
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, ShapeError, Types, Values, numbers
from netspec.ir.types import TensorType


class Clip(Layer):
    """y = min(max(x, min), max); the gradient passes inside, bounds included.

    Source: Caffe, `clip_layer.cpp`.
    """

    keyword: ClassVar = "clip"
    caffe: ClassVar = CaffeType("Clip", "clip_param")
    in_place: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 10 }
        clip { min: -1  max: 1 }
    """

    min: Real
    """The least that a cell may be."""
    max: Real
    """The most that a cell may be."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        if self.min > self.max:
            raise ShapeError(f"min {self.min:g} is above max {self.max:g}", field="min")
        return (x,)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), op = bottoms, context.op
        return (op.Clip(x, op.scalar(self.min), op.scalar(self.max)),)
