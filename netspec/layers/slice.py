"""Slice: a bottom is cut along an axis."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar, Self

from pydantic import PrivateAttr

from netspec.ir.fields import MAX_INT, Extent, Int
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
)
from netspec.ir.types import Shape, TensorType


class Slice(Layer):
    """y[i] = the cells from slice_point[i - 1] to slice_point[i] (Caffe, `slice_layer.cpp`).

    Without points the tops are of equal size; as many as the spec names.
    """

    keyword: ClassVar = "slice"
    caffe: ClassVar = CaffeType("Slice", "slice_param", "SLICE")
    tops: ClassVar = range(1, MAX_INT)
    counts_labels: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 4x32x32 }
        slice { top: "left"  top: "right"  slice_point: 2 }
        eltwise { bottom: "left"  bottom: "right"  operation: MAX }
    """

    axis: Int = 1
    """The axis that is cut; 1 is channels."""
    slice_point: Extent = ()
    """Where each top but the first begins."""
    _count: int | None = PrivateAttr(default=None)

    def with_tops(self, count: int) -> Self:
        named = self.model_copy()
        named._count = count
        return named

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        axis = axis_of(self.axis, x, first=0)
        return tuple(x.with_shape(*x.shape[:axis], n, *x.shape[axis + 1 :]) for n in self._sizes(x))

    def bound(self, bottoms: Types) -> bool:
        return over_batch(self.axis, bottoms[0])

    def _sizes(self, x: TensorType) -> Shape:
        """Cells of each top along the axis."""
        total = x.shape[axis_of(self.axis, x, first=0)]
        count = len(self.slice_point) + 1 if self._count is None else self._count
        if not self.slice_point:
            if total % count:
                raise ShapeError(f"{count} tops do not divide {total} cells of axis {self.axis}")
            return (total // count,) * count
        if len(self.slice_point) + 1 != count:
            raise ShapeError(
                f"{len(self.slice_point)} slice points, but {count} tops: needs one less",
                field="slice_point",
            )
        sizes = tuple(b - a for a, b in pairwise((0, *self.slice_point, total)))
        if min(sizes) < 1:
            shown = ", ".join(map(str, self.slice_point))
            raise ShapeError(
                f"points must rise, and stay below the {total} cells of axis {self.axis}: {shown}",
                field="slice_point",
            )
        return sizes

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), op = bottoms, context.op
        sizes = self._sizes(x.type)
        if len(sizes) == 1:
            return (op.Identity(x),)
        axis = axis_of(self.axis, x.type, first=0)
        parts: tuple[Value, ...] = op.Split(x, op.ints(*sizes), outputs=len(sizes), axis=axis)
        return parts
