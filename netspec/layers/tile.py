"""Tile: a blob several times over."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.fields import Int, Positive
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, Types, Values, axis_of, checked, numbers
from netspec.ir.types import TensorType


class Tile(Layer):
    """y = x `tiles` times, one behind the other along `axis` (Caffe, `tile_layer.cpp`)."""

    keyword: ClassVar = "tile"
    caffe: ClassVar = CaffeType("Tile", "tile_param")
    counts_labels: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 3x1x1 }
        tile { axis: 2  tiles: 8 }
    """

    tiles: Positive
    """How many times."""
    axis: Int = 1
    """The axis that grows; 1 is channels."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        axis = axis_of(self.axis, x, first=0)
        grown = x.shape[axis] * self.tiles
        return checked(x.with_shape(*x.shape[:axis], grown, *x.shape[axis + 1 :]))

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), op = bottoms, context.op
        repeats = [1] * len(x.type.shape)
        repeats[axis_of(self.axis, x.type, first=0)] = self.tiles
        return (op.Tile(x, op.ints(*repeats)),)
