"""Pooling: one cell for each place of a sliding window."""

from __future__ import annotations

from functools import reduce
from itertools import product
from math import prod
from typing import Any, ClassVar, Literal

from netspec.ir.fields import Flag
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, ShapeError, Types, Values, checked
from netspec.ir.masks import mask_of
from netspec.ir.phrases import pad
from netspec.ir.sampling import SMALLEST, drawn
from netspec.ir.several_tops import SeveralTops
from netspec.ir.types import Shape, TensorType, size
from netspec.ir.window import Window
from netspec.ir.windowed import Windowed

MAX_DRAWN = 1024
"""The most cells of a window, each of which is a tensor of its own while one is drawn."""


class Pooling(Windowed, SeveralTops):
    """y = max, mean, sum or a random one of the cells of a window, channel by channel.

    Each spatial axis gives ceil((x + 2·pad - kernel) / stride) + 1 cells, and with padding one
    less if the last window would start past the image. MAX never sees the padding; AVE counts it
    as zeros, but not what hangs over it (Caffe, `pooling_layer.cpp`). STOCHASTIC, for
    which cells below 0 are 0: TRAIN draws one with a probability in proportion to its value, TEST
    takes Σ x²/Σ x, the value to be expected (Zeiler & Fergus 2013, arXiv:1301.3557). A second top
    of MAX is its mask: the place of each maximum in its plane, row by row, as a float.
    """

    keyword: ClassVar = "pool"
    caffe: ClassVar = CaffeType("Pooling", "pooling_param", "POOLING")
    tops: ClassVar = range(1, 3)
    spatial: ClassVar = (2, 1)
    example: ClassVar = """
        input "data" { shape: 3x32x32 }
        pool { pool: MAX  kernel_size: 3  stride: 2 }
        pool { pool: AVE  global_pooling: true }
    """

    pool: Literal["MAX", "AVE", "SUM", "STOCHASTIC"] = "MAX"
    """What stands for a window: its largest cell, the mean, the sum, or a cell drawn by value."""
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
        if self.global_pooling:
            self._forbid_window()
        window = self.window(bottoms)
        if self.pool == "STOCHASTIC":
            self._check_drawn(window)
        for p, kernel in zip(window.pad, window.kernel, strict=True):
            if p >= kernel:
                raise ShapeError(f"pad {p} must be less than kernel_size {kernel}", field="pad")
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
        if self._count > 1 and self.pool != "MAX":
            raise ShapeError(f"{self.pool} has no mask, a second top: MAX has", field="pool")
        top = x.with_shape(x.batch, x.channels, *positions)
        return checked(*[top] * min(2, self._count))

    def _check_drawn(self, window: Window) -> None:
        """A ShapeError if cells of such windows are not drawn."""
        if any(window.pad):
            raise ShapeError("STOCHASTIC draws no padding: it takes none", field="pad")
        if not self.global_pooling and prod(window.kernel) > MAX_DRAWN:
            raise ShapeError(
                f"STOCHASTIC draws of {MAX_DRAWN} cells at most, not of {size(window.kernel)}",
                field="kernel_size",
                hint="global_pooling draws of as many as there are",
            )

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
        if self.pool == "STOCHASTIC":
            x = op.Relu(x)
            if context.training:
                return (drawn(context, self._met(context, x)),)
            total = op.Max(self._mean(context, x), op.scalar(SMALLEST))
            return (op.Div(self._mean(context, op.Mul(x, x)), total),)
        if self.pool == "AVE":
            return (self._mean(context, x),)
        if self.pool == "SUM":
            return (op.Mul(self._mean(context, x), self._counts(context, x)),)
        if self.global_pooling and self._count == 1:
            return (op.ReduceMax(x, self._axes(context, x), keepdims=1),)
        read, attrs = self._tile(context, x)
        # The gradient needs to know which cell won; where there is none, `simplify` drops it.
        y, indices = op.MaxPool(read, outputs=2, **attrs)
        return (y,) if self._count == 1 else (y, mask_of(op, indices, read, x))

    def _mean(self, context: Context, x: Value) -> Value:
        mean: Value
        if self.global_pooling:
            mean = context.op.ReduceMean(x, self._axes(context, x), keepdims=1)
        else:
            x, attrs = self._tile(context, x)
            mean = context.op.AveragePool(x, count_include_pad=1, **attrs)
        return mean

    def _axes(self, context: Context, x: Value) -> Value:
        return context.op.ints(*range(2, len(x.type.shape)))

    def _counts(self, context: Context, x: Value) -> Value:
        """How many cells each mean is of: one number if all are of as many."""
        import numpy as np

        extent, window = x.type.spatial, self.window([x.type])
        counts = window.counted(extent, self._positions(window, extent))
        each = reduce(np.multiply.outer, map(np.asarray, counts)).astype(np.float32)
        return context.op.constant(each if np.ptp(each) else each.ravel()[0])

    def _met(self, context: Context, x: Value) -> Value:
        """First the cells of a window, then the top's axes: what each of them meets; 0 outside."""
        op, extent, window = context.op, x.type.spatial, self.window([x.type])
        positions = self._positions(window, extent)
        if self.global_pooling:
            cells = op.Transpose(op.Reshape(x, op.ints(0, 0, -1)), perm=(2, 0, 1))
            met: Value = op.Reshape(cells, op.ints(0, 0, 0, *positions))
            return met
        spans = zip(positions, window.stride, window.kernel, extent, strict=True)
        behind = [max(0, (count - 1) * s + k - n) for count, s, k, n in spans]
        x = pad(op, x, [0] * len(behind), behind)
        axes, steps = op.ints(*range(2, 2 + len(extent))), op.ints(*window.stride)
        taps: list[Value] = []
        for tap in product(*map(range, window.kernel)):
            last = zip(tap, positions, window.stride, strict=True)
            ends = op.ints(*(a + (count - 1) * s + 1 for a, count, s in last))
            cells = op.Slice(x, op.ints(*tap), ends, axes, steps)
            taps.append(op.Unsqueeze(cells, op.ints(0)))
        return op.Concat(*taps, axis=0) if len(taps) > 1 else taps[0]

    def _tile(self, context: Context, x: Value) -> tuple[Value, dict[str, Any]]:
        """The bottom, and how windows slide over it, such that ONNX counts as Caffe does.

        `ceil_mode` holds for all axes, and below opset 22 ONNX does not know Caffe's clip. So
        where one axis hangs over and the other rounds down, the other loses what no window reads:
        padding first, and cells of the bottom where the stride is longer than the window.
        """
        extent, op = x.type.spatial, context.op
        window = self.window([x.type])
        attrs = {"kernel_shape": window.kernel, "strides": window.stride}
        floor, count = window.positions(extent), self._positions(window, extent)
        if count == floor:
            return x, {**attrs, "pads": window.pads, "ceil_mode": 0}
        ends = list(window.pad)
        for i, (a, stride) in enumerate(zip(window.slack(extent), window.stride, strict=True)):
            if count[i] == floor[i]:
                ends[i] -= a % stride
        for i, end in enumerate(ends):
            if end < 0:
                x = op.Slice(x, op.ints(0), op.ints(extent[i] + end), op.ints(2 + i))
        pads = (*window.pad, *(max(0, end) for end in ends))
        return x, {**attrs, "pads": pads, "ceil_mode": 1}
