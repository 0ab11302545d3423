"""Pooling: the largest or the mean cell of a sliding window."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from netspec.ir.fields import Flag
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, ShapeError, Types, Values, checked
from netspec.ir.types import Shape, TensorType, size
from netspec.ir.window import Window
from netspec.ir.windowed import Windowed


class Pooling(Windowed):
    """y = max, or mean, of the cells of a window, channel by channel.

    Each spatial axis gives ceil((x + 2·pad - kernel) / stride) + 1 cells, and with padding one
    less if the last window would start past the image. MAX never sees the padding; AVE counts it
    as zeros, but not what hangs over it (Caffe, `pooling_layer.cpp`).
    """

    keyword: ClassVar = "pool"
    caffe: ClassVar = CaffeType("Pooling", "pooling_param", "POOLING")
    example: ClassVar = """
        input "data" { shape: 3x32x32 }
        pool { pool: MAX  kernel_size: 3  stride: 2 }
        pool { pool: AVE  global_pooling: true }
    """

    pool: Literal["MAX", "AVE", "STOCHASTIC"] = "MAX"
    """What stands for a window: its largest cell, or the mean."""
    global_pooling: Flag = False
    """Whether one window spans the whole bottom, whatever its size."""
    round_mode: Literal["CEIL", "FLOOR"] = "CEIL"
    """Whether a last window that is only partly inside counts, or is left out."""

    def window(self, bottoms: Types) -> Window:
        (x,) = bottoms
        ones = (1,) * len(x.spatial)
        if self.global_pooling:
            return Window(x.spatial, ones, (0,) * len(ones), ones)
        stride, pad = self._per_axis("stride", x), self._per_axis("pad", x)
        return Window(self._kernel(x), stride, pad, ones)

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        x = self._blob(bottoms)
        if self.pool == "STOCHASTIC":
            raise ShapeError("STOCHASTIC is not supported: take MAX or AVE", field="pool")
        if self.global_pooling:
            self._forbid_window()
        window = self.window(bottoms)
        for pad, kernel in zip(window.pad, window.kernel, strict=True):
            if pad >= kernel:
                raise ShapeError(f"pad {pad} must be less than kernel_size {kernel}", field="pad")
        self._fit(window, x.spatial)
        positions = self._positions(window, x.spatial)
        starts = zip(positions, window.stride, window.pad, x.spatial, strict=True)
        if any((count - 1) * stride - pad >= n for count, stride, pad, n in starts):
            raise ShapeError(
                f"a window of {window} every {size(window.stride)} cells, rounded up to "
                f"{size(positions)} of them, starts outside of {size(x.spatial)}",
                field="stride",
                hint="round_mode: FLOOR leaves that window out",
            )
        return checked(x.with_shape(x.batch, x.channels, *positions))

    def _forbid_window(self) -> None:
        given = {"kernel_size": self.kernel_size is not None, "stride": set(self.stride) != {1},
                 "pad": any(self.pad)}  # fmt: skip
        for field, present in given.items():
            if present:
                raise ShapeError(f"global_pooling excludes {field}", field=field)

    def _positions(self, window: Window, extent: Shape) -> Shape:
        ceil = self.round_mode == "CEIL"
        return window.positions_ceil(extent) if ceil else window.positions(extent)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), op = bottoms, context.op
        if self.global_pooling:
            reduce = op.ReduceMax if self.pool == "MAX" else op.ReduceMean
            return (reduce(x, op.ints(*range(2, len(x.type.shape))), keepdims=1),)
        x, pads, hangs = self._tile(context, x)
        window = self.window([x.type])
        attrs: dict[str, Any] = {
            "kernel_shape": window.kernel,
            "strides": window.stride,
            "pads": pads,
            "ceil_mode": int(hangs),
        }
        if self.pool == "AVE":
            return (op.AveragePool(x, count_include_pad=1, **attrs),)
        # The gradient needs to know which cell won; where there is none, `simplify` drops it.
        y, _ = op.MaxPool(x, outputs=2, **attrs)
        return (y,)

    def _tile(self, context: Context, x: Value) -> tuple[Value, Shape, bool]:
        """The bottom, pads and whether windows hang over, such that ONNX counts as Caffe does.

        `ceil_mode` holds for both axes, and below opset 22 ONNX does not know Caffe's clip. So
        where one axis hangs over and the other rounds down, the other loses what no window reads:
        padding first, and cells of the bottom where the stride is longer than the window.
        """
        extent, op = x.type.spatial, context.op
        window = self.window([x.type])
        floor, count = window.positions(extent), self._positions(window, extent)
        if count == floor:
            return x, window.pads, False
        ends = list(window.pad)
        for i, (a, stride) in enumerate(zip(window.slack(extent), window.stride, strict=True)):
            if count[i] == floor[i]:
                ends[i] -= a % stride
        for i, end in enumerate(ends):
            if end < 0:
                x = op.Slice(x, op.ints(0), op.ints(extent[i] + end), op.ints(2 + i))
        return x, (*window.pad, *(max(0, end) for end in ends)), True
