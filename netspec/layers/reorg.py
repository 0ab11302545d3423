"""Reorg: an image with fewer cells and more channels, or the other way round."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.fields import Flag, Positive
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, ShapeError, Types, Values, checked, image
from netspec.ir.types import Shape, TensorType, size


class Reorg(Layer):
    """`stride`² times the channels, and a `stride`-th of each side, of the same values.

    They come in Darknet's order (YOLO9000, Redmon & Farhadi 2017, arXiv:1612.08242), which is not
    that of space-to-depth: the values of a sample, C x H x W, are read as C/s² x H·s x W·s, and
    there y[(p·s + q)·C/s² + c, h, w] = x[c, h·s + p, w·s + q], of C x H x W, which is named anew.
    `reverse` takes that step backwards (`reorg_layer.cpp` in forks of Caffe).
    """

    keyword: ClassVar = "reorg"
    caffe: ClassVar = CaffeType("Reorg", "reorg_param")
    example: ClassVar = """
        input "data" { shape: 8x6x6 }
        reorg { stride: 2 }
        conv { num_output: 4  kernel_size: 1 }
    """

    stride: Positive
    """s: by how much each side is divided."""
    reverse: Flag = False
    """Whether sides are multiplied and channels divided instead."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        x, s = image(bottoms), self.stride
        if x.channels % s**2:
            raise ShapeError(
                f"stride² {s**2} does not divide {x.channels} channels", field="stride"
            )
        if not self.reverse and any(n % s for n in x.spatial):
            raise ShapeError(f"stride {s} does not divide {size(x.spatial)}", field="stride")
        return checked(x.with_shape(x.batch, *self._sample(x)))

    def _sample(self, x: TensorType) -> Shape:
        s = self.stride
        c, h, w = x.sample
        return (c // s**2, h * s, w * s) if self.reverse else (c * s**2, h // s, w // s)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), op, s = bottoms, context.op, self.stride
        if s == 1:
            return (op.Identity(x),)
        c, h, w = x.type.sample
        deep, wide = (s, s, c // s**2, h, w), (c // s**2, h, s, w, s)
        parts, order = (deep, (0, 3, 4, 1, 5, 2)) if self.reverse else (wide, (0, 3, 5, 1, 2, 4))
        moved = op.Transpose(op.Reshape(x, op.ints(0, *parts)), perm=order)
        return (op.Reshape(moved, op.ints(0, *self._sample(x.type))),)
