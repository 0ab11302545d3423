"""Deconvolution: every cell lays its filters over the top, where they add up."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import ClassVar

from netspec.ir.fields import MAX_INT
from netspec.ir.filtered import Filtered
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, ShapeError, Types, Values, Weight, checked
from netspec.ir.types import TensorType, size
from netspec.ir.window import Window


class Deconvolution(Filtered):
    """The transpose of the convolution that the same fields describe, and a bias.

    y[o] at stride·i + dilation·tap - pad is Σ w[c, o, tap] · x[c, i] + b[o]; each spatial axis
    gives stride·(x - 1) + dilation·(kernel - 1) + 1 - 2·pad cells (Caffe, `deconv_layer.cpp`), and
    as with `conv` there are one to three. A weight is channels x num_output/group x kernel; with
    `group` as many as channels and a `bilinear` filler it enlarges each channel smoothly (Long et
    al. 2015, arXiv:1411.4038).
    """

    keyword: ClassVar = "deconv"
    caffe: ClassVar = CaffeType("Deconvolution", "convolution_param", "DECONVOLUTION")
    bottoms: ClassVar = range(1, MAX_INT)
    tops: ClassVar = range(1, MAX_INT)
    example: ClassVar = """
        input "data" { shape: 21x16x16 }
        deconv "upscore" {
          num_output: 21  group: 21  kernel_size: 4  stride: 2  pad: 1
          bias_term: false  weight_filler { type: bilinear }
        }
    """

    def window(self, bottoms: Types) -> Window:
        x = bottoms[0]
        return replace(self._slide(x), transposed=True)

    def lints(self, bottoms: Types) -> tuple[str, ...]:
        return ()  # the windows lie on the top, and make it as large as they reach

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        self._check_alike(bottoms)
        return tuple(self._top(x) for x in bottoms)

    def _top(self, x: TensorType) -> TensorType:
        x = self._blob([x])
        self._check_groups(x, "channels of the top")
        window = self._slide(x)
        extent = tuple(
            s * (n - 1) + r - 2 * p
            for n, s, r, p in zip(x.spatial, window.stride, window.reach, window.pad, strict=True)
        )
        if min(extent) < 1:
            laid = size(tuple(n + 2 * p for n, p in zip(extent, window.pad, strict=True)))
            raise ShapeError(f"pad {size(window.pad)} takes all of {laid} cells away", field="pad")
        return checked(x.with_shape(x.batch, self.num_output, *extent))[0]

    def weights(self, bottoms: Types) -> tuple[Weight, ...]:
        x = bottoms[0]
        return self._learned((x.channels, self.num_output // self.group, *self._kernel(x)))

    def macs(self, bottoms: Types) -> int:
        x, cells = bottoms[0], sum(bottom.numel for bottom in bottoms)
        return cells * (self.num_output // self.group) * prod(self._kernel(x))

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        op = context.op
        return tuple(op.ConvTranspose(x, *weights, **self._attrs(x.type)) for x in bottoms)
