"""Concat: bottoms are joined along an axis."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.fields import MAX_INT, Int
from netspec.ir.graph import Value
from netspec.ir.layer import (
    CaffeType,
    Context,
    Layer,
    ShapeError,
    Types,
    Values,
    axis_of,
    checked,
    numbers,
    shapes,
)
from netspec.ir.types import TensorType


class Concat(Layer):
    """y = the bottoms one after the other along `axis` (Caffe, `concat_layer.cpp`)."""

    keyword: ClassVar = "concat"
    caffe: ClassVar = CaffeType("Concat", "concat_param", "CONCAT")
    bottoms: ClassVar = range(1, MAX_INT)
    counts_labels: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 3x32x32 }
        conv "narrow" { bottom: "data"  num_output: 8  kernel_size: 1 }
        conv "wide" { bottom: "data"  num_output: 8  kernel_size: 3  pad: 1 }
        concat { bottom: "narrow"  bottom: "wide" }
    """

    axis: Int = 1
    """The axis along which bottoms follow each other; 1 is channels, 0 the batch."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        first, *others = numbers(bottoms)
        axis = axis_of(self.axis, first, first=0)
        for other in others:
            if _without(axis, other) != _without(axis, first):
                shown = shapes([first, other])
                raise ShapeError(f"bottoms must agree on all axes but {axis}: {shown} do not")
        total = sum(b.shape[axis] for b in bottoms)
        return checked(first.with_shape(*first.shape[:axis], total, *first.shape[axis + 1 :]))

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        axis = axis_of(self.axis, bottoms[0].type, first=0)
        return (context.op.Concat(*bottoms, axis=axis),)


def _without(axis: int, x: TensorType) -> tuple[object, ...]:
    """What must be equal: all axes but one, and how many there are."""
    return len(x.shape), x.shape[:axis], x.shape[axis + 1 :]
