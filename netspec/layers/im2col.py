"""Im2col: the cells of every window as channels."""

from __future__ import annotations

from math import prod
from typing import ClassVar

from netspec.ir.fields import PositivePerAxis
from netspec.ir.filter_transforms import MAX_MAP
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, ShapeError, Types, Values, checked
from netspec.ir.types import TensorType, size
from netspec.ir.window import Window
from netspec.ir.windowed import Windowed


class Im2col(Windowed):
    """y[c·taps + t] at a place is the cell of x[c] that tap t of the window there meets.

    Windows lie as those of `conv`, which is this and a product; outside is 0 (Caffe,
    `im2col_layer.cpp`).
    """

    keyword: ClassVar = "im2col"
    caffe: ClassVar = CaffeType("Im2col", "convolution_param", "IM2COL")
    example: ClassVar = """
        input "data" { shape: 3x16x16 }
        im2col { kernel_size: 3  stride: 2 }
    """

    dilation: PositivePerAxis = (1,)
    """Cells from one cell of a window to the next."""

    def window(self, bottoms: Types) -> Window:
        (x,) = bottoms
        stride, pad, dilation = (self._per_axis(f, x) for f in ("stride", "pad", "dilation"))
        return Window(self._kernel(x), stride, pad, dilation)

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        x = self._blob(bottoms)
        window = self.window([x])
        self._fit(window, x.spatial)
        taps = prod(window.kernel)
        if x.channels * taps**2 > MAX_MAP:
            raise ShapeError(
                f"{x.channels} channels of {size(window.kernel)} windows take a matrix of more "
                "than 2^24 values",
                field="kernel_size",
            )
        return checked(x.with_shape(x.batch, x.channels * taps, *window.positions(x.spatial)))

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        """A convolution, channel by channel, with a filter of a single 1 for each tap."""
        import numpy as np

        (x,), op = bottoms, context.op
        window = self.window([x.type])
        taps, channels = prod(window.kernel), x.type.channels
        single = np.tile(np.eye(taps, dtype=np.float32), (channels, 1))
        filters = op.constant(single.reshape(channels * taps, 1, *window.kernel))
        return (
            op.Conv(
                x, filters, kernel_shape=window.kernel, strides=window.stride, pads=window.pads,
                dilations=window.dilation, group=channels,
            ),
        )  # fmt: skip
