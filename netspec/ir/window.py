"""Sliding windows: the geometry that convolution and pooling share."""

from __future__ import annotations

from dataclasses import dataclass

from netspec.ir.types import Shape, size


@dataclass(frozen=True, slots=True)
class Window:
    """A window of `kernel` cells, `dilation` apart, stepping by `stride` over a padded input.

    Kernel, stride, pad and dilation have one entry per spatial axis.
    """

    kernel: Shape
    stride: Shape
    pad: Shape
    dilation: Shape
    transposed: bool = False
    """Whether it spreads each cell of the bottom over a window of the top, as `deconv` does."""

    @property
    def reach(self) -> Shape:
        """Cells spanned per axis, holes included."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    @property
    def pads(self) -> Shape:
        """Begin and end padding in ONNX order."""
        return self.pad + self.pad

    def slack(self, extent: Shape) -> Shape:
        """Cells by which the padded input is longer than one window, per axis; negative: no fit."""
        return tuple(n + 2 * p - r for n, p, r in zip(extent, self.pad, self.reach, strict=True))

    def positions(self, extent: Shape) -> Shape:
        """How many places the window fits on each axis of an input of `extent` cells."""
        return tuple(a // s + 1 for a, s in zip(self.slack(extent), self.stride, strict=True))

    def positions_ceil(self, extent: Shape) -> Shape:
        """Caffe's pooling: rounded up; with padding on any axis, the last window starts inside.

        Source: `PoolingLayer::Reshape`, BVLC/caffe.
        """
        counts = []
        for n, p, s, a in zip(extent, self.pad, self.stride, self.slack(extent), strict=True):
            count = -(-a // s) + 1
            if any(self.pad) and (count - 1) * s >= n + p:
                count -= 1
            counts.append(count)
        return tuple(counts)

    def counted(self, extent: Shape, positions: Shape) -> list[list[int]]:
        """Cells that each window counts on each axis: padding, but not what hangs over it."""
        return [
            [min(k, n + 2 * p - s * i) for i in range(count)]
            for n, k, s, p, count in zip(
                extent, self.kernel, self.stride, self.pad, positions, strict=True
            )
        ]

    def uncovered(self, extent: Shape, positions: Shape) -> Shape:
        """Input cells at the end of each axis that lie past the last of `positions` windows."""
        return tuple(
            max(0, n + p - (count - 1) * s - r)
            for n, count, p, s, r in zip(
                extent, positions, self.pad, self.stride, self.reach, strict=True
            )
        )

    def __str__(self) -> str:
        return size(self.reach)
