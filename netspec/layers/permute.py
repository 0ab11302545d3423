"""Permute: the axes in another order."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.fields import Ints
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, ShapeError, Types, Values, numbers
from netspec.ir.types import Shape, TensorType, size


class Permute(Layer):
    """y[i of order] = x[i]: axis k of the top is axis order[k] of the bottom.

    Axes that `order` does not list follow in theirs (SSD's `permute_layer.cpp`, Liu et al. 2016,
    arXiv:1512.02325).
    """

    keyword: ClassVar = "permute"
    caffe: ClassVar = CaffeType("Permute", "permute_param")
    example: ClassVar = """
        input "data" { shape: 8x4x4 }
        permute { order: [0, 2, 3, 1] }
        flatten
    """

    order: Ints
    """The bottom's axes as they come in the top; 0 is the batch."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        return (x.with_shape(*(x.shape[axis] for axis in self._order(x))),)

    def lints(self, bottoms: Types) -> tuple[str, ...]:
        if self._order(bottoms[0])[0] == 0:
            return ()
        return ("the batch, axis 0, does not stay first",)

    def _order(self, x: TensorType) -> Shape:
        """All axes of `x` in their new order."""
        rank = len(x.shape)
        for axis in self.order:
            if not 0 <= axis < rank:
                raise ShapeError(
                    f"there is no axis {axis}: the bottom is {size(x.shape)}, batch included",
                    field="order",
                )
        twice = [axis for axis in self.order if self.order.count(axis) > 1]
        if twice:
            raise ShapeError(f"order lists axis {twice[0]} twice", field="order")
        return (*self.order, *(axis for axis in range(rank) if axis not in self.order))

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,) = bottoms
        return (context.op.Transpose(x, perm=self._order(x.type)),)
