"""The windows of pooling: what each of them holds and counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from netspec.codegen.formulations.phases import Phase, phases
from netspec.ir.graph import Op
from netspec.ir.types import Shape


def shares(node: Op, extent: Shape, out: Shape) -> npt.NDArray[np.float64]:
    """1/count for every window of an average, or one number where all are alike.

    Padding counts if `count_include_pad`; what `ceil_mode` adds beyond it never does.
    """
    attrs, rank = node.attrs, len(extent)
    counted = attrs.get("count_include_pad", 0)
    stride = tuple(attrs.get("strides", (1,) * rank))
    pads = tuple(attrs.get("pads", (0, 0) * rank))
    counts: npt.NDArray[np.float64] = np.ones(())
    for i, k in enumerate(attrs["kernel_shape"]):
        first = np.arange(out[i]) * stride[i] - pads[i]
        least, most = -counted * pads[i], extent[i] + counted * pads[rank + i]
        held = np.minimum(first + k, most) - np.maximum(first, least)
        counts = counts[..., None] * held
    return 1 / (counts if np.ptp(counts) else counts.ravel()[:1].reshape(()))


@dataclass(frozen=True, slots=True)
class Pool:
    """The windows of a pooling operator over two axes."""

    kernel: Shape
    stride: Shape
    pad: Shape
    """Before the first cell; what is behind the last follows from the number of windows."""

    @classmethod
    def of(cls, node: Op) -> Pool:
        kernel = tuple(node.attrs["kernel_shape"])
        rank = len(kernel)
        stride = tuple(node.attrs.get("strides", (1,) * rank))
        return cls(kernel, stride, tuple(node.attrs.get("pads", (0, 0) * rank))[:rank])

    def ends(self, extent: Shape, positions: Shape) -> Shape:
        """Cells of padding behind the last of `extent` that so many windows read."""
        spans = zip(extent, positions, self.kernel, self.stride, self.pad, strict=True)
        return tuple(max(0, (o - 1) * s + k - n - p) for n, o, k, s, p in spans)

    def inside(self, tap: Shape, extent: Shape, positions: Shape) -> npt.NDArray[np.bool_]:
        """Which windows meet a cell with one of their taps, and not the padding."""
        held = np.ones((), bool)
        for i, n, o, s, p in zip(tap, extent, positions, self.stride, self.pad, strict=True):
            cells = np.arange(o) * s + i - p
            held = held[..., None] & (cells >= 0) & (cells < n)
        return held

    def phases(self, extent: Shape, positions: Shape) -> list[list[Phase]]:
        """For both axes."""
        spans = zip(self.kernel, self.stride, self.pad, extent, positions, strict=True)
        return [phases(*span) for span in spans]
