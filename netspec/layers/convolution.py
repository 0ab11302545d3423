"""Convolution: learned filters slid over the spatial axes."""

from __future__ import annotations

from math import prod
from typing import ClassVar

from netspec.ir.fields import Flag, Positive, PositivePair
from netspec.ir.filler import Filler
from netspec.ir.graph import Value
from netspec.ir.layer import (
    CaffeType,
    Context,
    ShapeError,
    Types,
    Values,
    Weight,
    checked,
    image,
)
from netspec.ir.types import TensorType
from netspec.ir.window import Window
from netspec.ir.windowed import Windowed


class Convolution(Windowed):
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

    num_output: Positive
    """Number of filters, and so of channels in the top."""
    dilation: PositivePair = (1, 1)
    """Input cells between neighbouring filter cells."""
    group: Positive = 1
    """Channel groups convolved apart; as many groups as channels is depthwise."""
    bias_term: Flag = True
    """Whether each filter adds a learned bias."""
    weight_filler: Filler = Filler(type="msra")
    """How the filters are initialised."""
    bias_filler: Filler = Filler()
    """How the biases are initialised."""

    def window(self, bottoms: Types) -> Window:
        return Window(self._kernel(), self.stride, self.pad, self.dilation)

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        x = image(bottoms)
        for what, count in (("channels of the bottom", x.channels), ("filters", self.num_output)):
            if count % self.group:
                raise ShapeError(f"{self.group} groups do not divide {count} {what}", field="group")
        window = self.window(bottoms)
        self._fit(window, x.spatial)
        return checked(x.with_shape(x.batch, self.num_output, *window.positions(x.spatial)))

    def weights(self, bottoms: Types) -> tuple[Weight, ...]:
        (x,) = bottoms
        shape = (self.num_output, x.channels // self.group, *self._kernel())
        weight = Weight("weight", shape, self.weight_filler)
        if not self.bias_term:
            return (weight,)
        return weight, Weight("bias", (self.num_output,), self.bias_filler)

    def macs(self, bottoms: Types) -> int:
        (x,), (y,) = bottoms, self.infer(bottoms)
        return y.numel * (x.channels // self.group) * prod(self._kernel())

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,) = bottoms
        window = self.window([x.type])
        y = context.op.Conv(
            x,
            *weights,
            kernel_shape=window.kernel,
            strides=window.stride,
            pads=window.pads,
            dilations=window.dilation,
            group=self.group,
        )
        return (y,)
