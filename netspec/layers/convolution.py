"""Convolution: learned filters slid over the spatial axes."""

from __future__ import annotations

from math import prod
from typing import ClassVar, Literal

from netspec.ir.fields import MAX_INT
from netspec.ir.filter_transforms import MAX_MAP, FilterTransform, Transforms, listed
from netspec.ir.filtered import Filtered
from netspec.ir.graph import Ops, Value
from netspec.ir.layer import CaffeType, Context, ShapeError, Types, Values, Weight, checked
from netspec.ir.types import Shape, TensorType, size
from netspec.ir.window import Window


class Convolution(Filtered):
    """Cross-correlate the bottom with `num_output` learned filters.

    y[o] = Σ w[o] * x[group of o] + b[o]; each spatial axis gives
    floor((x + 2·pad - dilation·(kernel - 1) - 1) / stride) + 1 cells (Caffe, `conv_layer.cpp`).
    One to three of them: channels x depth x height x width has kernels such as 3x3x3.

    Several bottoms give as many tops, all by the same weights.

    With `transforms`, every filter is applied as it is and in each of them, by one learned weight
    and bias: map o·T + t of the top is filter o in transform t of T, t = 0 as it is. Quarter turns
    and the flip are exact, others bilinear about the filter's centre.
    """

    keyword: ClassVar = "conv"
    caffe: ClassVar = CaffeType("Convolution", "convolution_param", "CONVOLUTION")
    bottoms: ClassVar = range(1, MAX_INT)
    tops: ClassVar = range(1, MAX_INT)
    example: ClassVar = """
        input "data" { shape: 3x32x32 }
        conv "conv1" { num_output: 16  kernel_size: 3  pad: 1 }
        conv "conv2" { num_output: 8  kernel_size: 3  transforms: [rot90, rot180, rot270] }
    """

    transforms: Transforms = ()
    """Turns and mirrorings of each filter, beside itself: of identity, rot90, rot180, rot270 and
    flip (left to right); or `{ rotate: [45, 90]  scale: [0.5, 2]  flip: true }`, in degrees
    counter-clockwise and times as large."""
    pool_transforms: Literal["MAX"] | None = None
    """MAX: of a filter's maps the largest cell, and so `num_output` channels."""

    def window(self, bottoms: Types) -> Window:
        x = bottoms[0]
        return self._slide(x)

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        self._check_alike(bottoms)
        return tuple(self._top(x) for x in bottoms)

    def _top(self, x: TensorType) -> TensorType:
        x = self._blob([x])
        self._check_groups(x, "filters")
        window = self._slide(x)
        self._fit(window, x.spatial)
        count = len(self._transforms(window.kernel))
        maps = self.num_output * (1 if self.pool_transforms else count)
        return checked(x.with_shape(x.batch, maps, *window.positions(x.spatial)))[0]

    def _transforms(self, kernel: Shape) -> tuple[FilterTransform, ...]:
        """What each filter is applied in, the identity first; a ShapeError if it cannot be."""
        try:
            found = listed(self.transforms)
        except ValueError as error:
            raise ShapeError(str(error), field="transforms") from None
        if self.pool_transforms and len(found) == 1:
            raise ShapeError("there are no transforms to pool", field="pool_transforms")
        if len(kernel) > 2 and len(found) > 1:
            raise ShapeError("a filter over three axes has no transforms", field="transforms")
        if len(kernel) == 1 and any(transform.degrees for transform in found):
            raise ShapeError("a filter over one axis cannot be turned", field="transforms")
        if len(set(kernel)) > 1 and any(transform.quarter for transform in found):
            raise ShapeError(
                f"only a square filter can be turned, not {size(kernel)}", field="transforms"
            )
        if len(found) > 1 and len(found) * prod(kernel) ** 2 > MAX_MAP:
            raise ShapeError(
                f"{len(found)} transforms of {size(kernel)} filters take a matrix of more than "
                "2^24 values",
                field="transforms",
            )
        return found

    def weights(self, bottoms: Types) -> tuple[Weight, ...]:
        x = bottoms[0]
        return self._learned((self.num_output, x.channels // self.group, *self._kernel(x)))

    def macs(self, bottoms: Types) -> int:
        x = bottoms[0]
        filters = self.num_output * len(self._transforms(self._kernel(x)))
        cells = sum(y.batch * prod(y.spatial) for y in self.infer(bottoms))
        return cells * filters * (x.channels // self.group) * prod(self._kernel(x))

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        op = context.op
        transforms = self._transforms(self._kernel(bottoms[0].type))
        if len(transforms) > 1:
            filters, *bias = weights
            spread = [self._repeated(op, b, len(transforms)) for b in bias]
            weights = (self._applied(op, filters, transforms), *spread)
        tops = [op.Conv(x, *weights, **self._attrs(x.type)) for x in bottoms]
        if self.pool_transforms:
            tops = [self._pooled(op, y, len(transforms)) for y in tops]
        return tuple(tops)

    def _pooled(self, op: Ops, y: Value, count: int) -> Value:
        """The largest cell of each filter's maps."""
        apart = op.Reshape(y, op.ints(0, self.num_output, count, *y.type.spatial))
        pooled: Value = op.Squeeze(op.ReduceMax(apart, op.ints(2), keepdims=1), op.ints(2))
        return pooled

    def _applied(self, op: Ops, filters: Value, transforms: tuple[FilterTransform, ...]) -> Value:
        """Every filter in every transform: a product of its taps with all their maps at once."""
        import numpy as np

        (m, c, *kernel), count = filters.type.shape, len(transforms)
        taps = prod(kernel)
        maps = np.concatenate([transform.matrix(tuple(kernel)) for transform in transforms])
        flat = op.Reshape(filters, op.ints(m * c, taps))
        mapped = op.MatMul(flat, op.constant(maps.T.astype(np.float32)))
        apart = op.Transpose(op.Reshape(mapped, op.ints(m, c, count, taps)), perm=(0, 2, 1, 3))
        applied: Value = op.Reshape(apart, op.ints(m * count, c, *kernel))
        return applied

    def _repeated(self, op: Ops, bias: Value, count: int) -> Value:
        """A filter's bias for each of its maps."""
        column = op.Reshape(bias, op.ints(self.num_output, 1))
        repeated: Value = op.Reshape(
            op.Expand(column, op.ints(self.num_output, count)), op.ints(self.num_output * count)
        )
        return repeated
