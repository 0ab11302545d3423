"""The fields of a layer whose bottom meets a smaller tensor, which spans some of its axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import BeforeValidator

from netspec.ir.fields import Int, whole
from netspec.ir.graph import Ops, Value
from netspec.ir.layer import Layer, ShapeError, Types, Values, axis_of, checked, numbers, over_batch
from netspec.ir.phrases import reshape
from netspec.ir.types import Shape, TensorType, size


class Spanning(Layer):
    """x and a tensor that spans consecutive axes of it: learned, or the second bottom.

    A second bottom that begins with the batch takes `axis: 0`; one of a single number any.
    """

    bottoms: ClassVar = range(1, 3)
    in_place: ClassVar = True

    axis: Int = 1
    """The first axis of x that the smaller tensor spans; the batch is axis 0."""
    num_axes: Annotated[int, BeforeValidator(whole(-1))] = 1
    """How many axes of x a learned tensor spans: 0 is a single number, -1 all that follow."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        x, *other = numbers(bottoms)
        if other:
            self._accept(x, other[0])
        else:
            self._span(x)
        return checked(x)

    def _accept(self, x: TensorType, other: TensorType) -> None:
        """A ShapeError unless the second bottom matches the axes of x from `axis` on."""
        first = self._first(x, other)
        met = x.shape[first : first + len(other.shape)]
        if met == other.shape:
            return
        hint = None
        if x.shape[: len(other.shape)] == other.shape:
            hint = "axis: 0, as the second bottom begins with the batch"
        raise ShapeError(
            f"the second bottom {size(other.shape)} does not match the first, {size(x.shape)}, "
            f"from axis {self.axis} on",
            field="axis",
            hint=hint,
        )

    def _first(self, x: TensorType, other: TensorType) -> int:
        """The first axis of x that the second bottom spans; one number spans none."""
        return axis_of(self.axis, x, first=0) if other.shape else 0

    def _span(self, x: TensorType) -> range:
        """The axes of x that a learned tensor spans."""
        if self.num_axes == 0:
            return range(0)
        first = axis_of(self.axis, x, first=0)
        end = len(x.shape) if self.num_axes == -1 else first + self.num_axes
        if end > len(x.shape):
            raise ShapeError(
                f"{self.num_axes} axes from axis {first} on, but {size(x.shape)} has "
                f"{len(x.shape) - first}",
                field="num_axes",
            )
        return range(first, end)

    def bound(self, bottoms: Types) -> bool:
        x, *other = bottoms
        if other:  # as a second bottom behind the batch may be of any size, even the batch's
            return self._first(x, other[0]) > 0
        return self.num_axes != 0 and over_batch(self.axis, x)

    def _learned(self, x: TensorType) -> Shape:
        """The shape of a learned tensor."""
        return tuple(x.shape[axis] for axis in self._span(x))

    def _aligned(self, op: Ops, bottoms: Values, weights: Values) -> Sequence[Value]:
        """The second bottom and the learned tensors, shaped to broadcast over the first bottom."""
        x, *others = bottoms
        if others:
            (other,) = others
            first, spanned = self._first(x.type, other.type), len(other.type.shape)
            ones = (1,) * (len(x.type.shape) - first - spanned)
            if first == 0 and ones and spanned:
                return [op.Reshape(other, op.ints(0, *other.type.sample, *ones))]
            return [reshape(op, other, *other.type.shape, *ones) if spanned else other]
        span = self._span(x.type)
        ones = (1,) * (len(x.type.shape) - span.stop) if span else ()
        return [reshape(op, w, *w.type.shape, *ones) for w in weights]
