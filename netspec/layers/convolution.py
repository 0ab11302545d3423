"""Convolution: learned filters slid over the spatial axes."""

from __future__ import annotations

from math import prod
from typing import ClassVar

from netspec.ir.filtered import Filtered
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Types, Values, Weight, checked
from netspec.ir.types import TensorType
from netspec.ir.window import Window


class Convolution(Filtered):
    """Cross-correlate the bottom with `num_output` learned filters.

    y[o] = Σ w[o] * x[group of o] + b[o]; each spatial axis gives
    floor((x + 2·pad - dilation·(kernel - 1) - 1) / stride) + 1 cells (Caffe, `conv_layer.cpp`).
    """

    keyword: ClassVar = "conv"
    caffe: ClassVar = CaffeType("Convolution", "convolution_param", "CONVOLUTION")
    example: ClassVar = """
        input "data" { shape: 3x32x32 }
        conv "conv1" { num_output: 16  kernel_size: 3  pad: 1 }
    """

    def window(self, bottoms: Types) -> Window:
        (x,) = bottoms
        return self._slide(x)

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        x = self._blob(bottoms)
        self._check_groups(x, "filters")
        window = self._slide(x)
        self._fit(window, x.spatial)
        return checked(x.with_shape(x.batch, self.num_output, *window.positions(x.spatial)))

    def weights(self, bottoms: Types) -> tuple[Weight, ...]:
        (x,) = bottoms
        return self._learned((self.num_output, x.channels // self.group, *self._kernel(x)))

    def macs(self, bottoms: Types) -> int:
        (x,), (y,) = bottoms, self.infer(bottoms)
        return y.numel * (x.channels // self.group) * prod(self._kernel(x))

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,) = bottoms
        return (context.op.Conv(x, *weights, **self._attrs(x.type)),)
