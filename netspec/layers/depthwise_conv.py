"""Depthwise convolution: every channel has filters of its own."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.fields import Flag, Positive, PositivePerAxis
from netspec.ir.filler import Filler
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, ShapeError, Types, Values, Weight
from netspec.ir.types import TensorType
from netspec.ir.window import Window
from netspec.ir.windowed import Windowed
from netspec.layers.convolution import Convolution


class DepthwiseConvolution(Windowed):
    """y[c·multiplier + m] = w[c·multiplier + m] * x[c] + b: a `conv` with a group per channel.

    Shapes are those of `conv` (Howard et al. 2017, arXiv:1704.04861; ConvolutionDepthwise and
    DepthwiseConvolution in forks of Caffe).
    """

    keyword: ClassVar = "depthwise_conv"
    caffe: ClassVar = CaffeType(
        "ConvolutionDepthwise", "convolution_param", also=("DepthwiseConvolution",)
    )
    example: ClassVar = """
        input "data" { shape: 32x28x28 }
        depthwise_conv { kernel_size: 3  pad: 1 }
        conv { num_output: 64  kernel_size: 1 }
    """

    multiplier: Positive | None = None
    """Filters for each channel; 1 unless given."""
    num_output: Positive | None = None
    """Filters in all, instead of `multiplier`: the channels, or a multiple of them."""
    group: Positive | None = None
    """The channels, for those who write it out."""
    dilation: PositivePerAxis = (1,)
    """Cells from one filter cell to the next."""
    bias_term: Flag = True
    """Whether each filter adds a learned bias."""
    weight_filler: Filler = Filler(type="msra")
    """How the filters are initialised."""
    bias_filler: Filler = Filler()
    """How the biases are initialised."""

    def _conv(self, x: TensorType) -> Convolution:
        """The convolution that it is on a bottom of these channels."""
        own = {"multiplier", "num_output", "group"}
        shared = {name: getattr(self, name) for name in type(self).model_fields if name not in own}
        filters = self.num_output or x.channels * (self.multiplier or 1)
        return Convolution.model_construct(**shared, num_output=filters, group=x.channels)

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        x = self._blob(bottoms)
        if self.num_output and self.multiplier:
            raise ShapeError("num_output excludes multiplier", field="num_output")
        if self.num_output and self.num_output % x.channels:
            raise ShapeError(
                f"num_output {self.num_output} is no multiple of the {x.channels} channels",
                field="num_output",
            )
        if self.group not in (None, x.channels):
            raise ShapeError(
                f"has a group for each of {x.channels} channels, not {self.group}", field="group"
            )
        return self._conv(x).infer(bottoms)

    def window(self, bottoms: Types) -> Window:
        return self._conv(bottoms[0]).window(bottoms)

    def weights(self, bottoms: Types) -> tuple[Weight, ...]:
        return self._conv(bottoms[0]).weights(bottoms)

    def macs(self, bottoms: Types) -> int:
        return self._conv(bottoms[0]).macs(bottoms)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        return self._conv(bottoms[0].type).lower(context, bottoms, weights)
