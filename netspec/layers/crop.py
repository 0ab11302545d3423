"""Crop: a part of one bottom, as large as the other."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BeforeValidator

from netspec.ir.fields import Int, NonNegative, Says, many
from netspec.ir.graph import Value
from netspec.ir.layer import (
    CaffeType,
    Context,
    Layer,
    ShapeError,
    Types,
    Values,
    axis_of,
    numbers,
    over_batch,
    shapes,
)
from netspec.ir.types import Shape, TensorType


class Crop(Layer):
    """y = the cells of the first bottom from `offset` on, as many as the second has on each axis.

    Axes before `axis` stay whole; of the second bottom only the shape counts (Caffe,
    `crop_layer.cpp`).
    """

    keyword: ClassVar = "crop"
    caffe: ClassVar = CaffeType("Crop", "crop_param")
    bottoms: ClassVar = range(2, 3)
    example: ClassVar = """
        input "data" { shape: 3x32x32 }
        deconv "large" { bottom: "data"  num_output: 3  kernel_size: 4 }
        crop { bottom: "large"  bottom: "data"  offset: 1 }
    """

    axis: Int = 2
    """The first axis that is cropped, with all after it; the batch is axis 0."""
    offset: Annotated[
        tuple[NonNegative, ...], BeforeValidator(many), Says("whole numbers from 0")
    ] = (0,)
    """Cells left out before: one number for all cropped axes, or one for each."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        x, like = bottoms
        numbers([x])
        first = axis_of(self.axis, x, first=0)
        if len(like.shape) != len(x.shape):
            raise ShapeError(f"bottoms must have as many axes, not {shapes(bottoms)}")
        for axis, offset in enumerate(self._offsets(x, first), first):
            if offset + like.shape[axis] > x.shape[axis]:
                raise ShapeError(
                    f"{like.shape[axis]} cells from {offset} on pass the end of axis {axis}, "
                    f"which has {x.shape[axis]}: {shapes(bottoms)}",
                    field="offset",
                )
        return (x.with_shape(*x.shape[:first], *like.shape[first:]),)

    def bound(self, bottoms: Types) -> bool:
        return over_batch(self.axis, bottoms[0])

    def _offsets(self, x: TensorType, first: int) -> Shape:
        """Cells left out before, for each cropped axis."""
        cropped = len(x.shape) - first
        if len(self.offset) == 1:
            return self.offset * cropped
        if len(self.offset) != cropped:
            raise ShapeError(f"{len(self.offset)} offsets for {cropped} axes", field="offset")
        return self.offset

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x, like), op = bottoms, context.op
        first = axis_of(self.axis, x.type, first=0)
        starts, counts = self._offsets(x.type, first), like.type.shape[first:]
        ends = (start + count for start, count in zip(starts, counts, strict=True))
        axes = range(first, len(x.type.shape))
        return (op.Slice(x, op.ints(*starts), op.ints(*ends), op.ints(*axes)),)
