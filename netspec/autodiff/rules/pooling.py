"""Pooling: a window's cotangent goes to the cell that won, or in equal shares to all."""

from __future__ import annotations

from math import prod

import numpy as np
import numpy.typing as npt

from netspec.autodiff.phrases import pad, planes, reshape, scatter
from netspec.autodiff.vjp import Primal, vjp
from netspec.ir.graph import Ops, Value
from netspec.ir.types import Shape


@vjp("MaxPool")
def max_pool(op: Ops, primal: Primal, y_bar: Value, *_: None) -> list[Value | None]:
    """x̄[i] = Σ of the ȳ whose window's first maximum is cell i."""
    (x,) = primal.node.inputs
    assert x is not None
    assert len(primal.node.outputs) == 2, f"{primal.node.name}: ask for the indices in training"
    indices = primal.node.outputs[1]
    n, c, *extent = x.type.shape
    # The indices count through the whole tensor: each row of a view by planes has its own origin.
    origins = op.constant(np.arange(n * c).reshape(-1, 1) * prod(extent))
    local = op.Sub(planes(op, indices), origins)
    flat = scatter(op, (n * c, prod(extent)), local, planes(op, y_bar), 1)
    return [reshape(op, flat, *x.type.shape)]


@vjp("AveragePool")
def average_pool(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """x̄ = Σ of ȳ/count over the windows that hold a cell."""
    (x,) = primal.node.inputs
    assert x is not None
    attrs = primal.node.attrs
    kernel: Shape = tuple(attrs["kernel_shape"])
    rank = len(kernel)
    stride = tuple(attrs.get("strides", (1,) * rank))
    pads = tuple(attrs.get("pads", (0, 0) * rank))
    begin, end = pads[:rank], pads[rank:]
    shares = _shares(primal, x.type.spatial, y_bar.type.spatial, stride, begin, end)
    whole = shares.size == 1 and float(shares) == 1 / prod(kernel)
    if set(stride) == {1} and begin == end and whole:
        # At stride 1 averaging is its own adjoint.
        back = tuple(k - 1 - p for k, p in zip(kernel, begin, strict=True))
        return [op.AveragePool(y_bar, kernel_shape=kernel, pads=back + back, count_include_pad=1)]
    share = op.Mul(y_bar, op.constant(shares.astype(y_bar.type.dtype)))
    if kernel == stride:
        return [_tile(op, share, x, kernel, begin)]
    return [_overlay(op, share, x, kernel, stride, begin)]


def _shares(
    primal: Primal, extent: Shape, out: Shape, stride: Shape, begin: Shape, end: Shape
) -> npt.NDArray[np.float64]:
    """1/count for every window, or one number where all are alike.

    Padding counts if `count_include_pad`; what `ceil_mode` adds beyond it never does.
    """
    attrs = primal.node.attrs
    counted = attrs.get("count_include_pad", 0)
    counts: npt.NDArray[np.float64] = np.ones(())
    for i, k in enumerate(attrs["kernel_shape"]):
        first = np.arange(out[i]) * stride[i] - begin[i]
        least, most = -counted * begin[i], extent[i] + counted * end[i]
        held = np.minimum(first + k, most) - np.maximum(first, least)
        counts = counts[..., None] * held
    return 1 / (counts if np.ptp(counts) else counts.ravel()[:1].reshape(()))


def _tile(op: Ops, share: Value, x: Value, kernel: Shape, begin: Shape) -> Value:
    """Windows side by side: each share repeated over its cells, then cut or padded to x."""
    covered = tuple(o * k for o, k in zip(share.type.spatial, kernel, strict=True))
    cells = op.Resize(
        share,
        None,
        None,
        op.ints(*x.type.shape[:2], *covered),
        mode="nearest",
        nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )
    after = [n + p - r for n, p, r in zip(x.type.spatial, begin, covered, strict=True)]
    return pad(op, cells, [-p for p in begin], after)


def _overlay(op: Ops, share: Value, x: Value, kernel: Shape, stride: Shape, begin: Shape) -> Value:
    """Windows that overlap or leave gaps: a product for each axis with [window o holds cell i].

    Each product also turns the axes, so that two bring them back. For a 3x3 window at stride 2
    a half of the time of a transposed convolution with ones, and needs no cut behind it.
    """
    (*lead, height, width), (h, w) = share.type.shape, x.type.spatial
    cells = reshape(op, share, prod(lead), height, width)
    for n, o, k, s, p in zip((h, w), (height, width), kernel, stride, begin, strict=True):
        distance = np.arange(n) - (np.arange(o) * s - p)[:, None]
        holds = (distance >= 0) & (distance < k)
        cells = op.FusedMatMul(cells, op.constant(holds.astype(share.type.dtype)), transA=1)
    return reshape(op, cells, *x.type.shape)
