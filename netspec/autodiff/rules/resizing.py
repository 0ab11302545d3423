"""Resizing: every cell of ȳ goes back to those that it was made of."""

from __future__ import annotations

from functools import reduce
from math import prod

import numpy as np
import numpy.typing as npt

from netspec.autodiff.vjp import Primal, vjp
from netspec.ir.graph import Ops, Value
from netspec.ir.phrases import pad, reshape, scale
from netspec.ir.types import Shape


@vjp("Resize")
def resize(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """x̄ = Σ of the ȳ that repeat a cell, or that it has a share in, by that share."""
    x, *rest = primal.node.inputs
    assert x is not None
    attrs, extent = primal.node.attrs, x.type.spatial
    if attrs["coordinate_transformation_mode"] == "align_corners":
        assert attrs["mode"] == "linear", f"{primal.node.name}: has no gradient rule"
        return [_mix_corners_back(op, y_bar, extent), *(None for _ in rest)]
    times = tuple(o // n for o, n in zip(y_bar.type.spatial, extent, strict=True))
    grown = tuple(n * k for n, k in zip(extent, times, strict=True))
    assert y_bar.type.shape == (*x.type.shape[:2], *grown), f"{primal.node.name}: not whole times"
    how = attrs.get("mode", "nearest"), attrs["coordinate_transformation_mode"]
    if how == ("nearest", "asymmetric"):
        assert attrs["nearest_mode"] == "floor", primal.node.name
        x_bar = _sum_copies(op, y_bar, times)
    else:
        assert how == ("linear", "half_pixel"), f"{primal.node.name}: {how} has no gradient rule"
        x_bar = _mix_back(op, y_bar, times)
    return [x_bar, *(None for _ in rest)]


def _mix_corners_back(op: Ops, y_bar: Value, extent: Shape) -> Value:
    """x̄ = Aᵀ·ȳ·B, where y = A·x·Bᵀ mixes rows and columns.

    One axis after the other as the last one: a matrix to the left would be broadcast, and CUDA
    lists such batches on the host.
    """
    for n, m in reversed([*zip(extent, y_bar.type.spatial, strict=True)]):
        mixture = op.constant(_mixture(n, m).astype(y_bar.type.dtype))
        y_bar = op.Transpose(op.MatMul(y_bar, mixture), perm=(0, 1, 3, 2))
    return y_bar


def _mixture(n: int, m: int) -> npt.NDArray[np.float64]:
    """What each of m cells has of each of n cells, where the first and last ones are the same."""
    at = np.arange(m) * ((n - 1) / max(m - 1, 1))
    shares: npt.NDArray[np.float64] = 1 - np.abs(at[:, None] - np.arange(n))
    return shares.clip(min=0)


def _sum_copies(op: Ops, y_bar: Value, times: Shape) -> Value:
    """The sum of each tile of `times` cells, as a pool of these windows."""
    mean = op.AveragePool(y_bar, kernel_shape=times, strides=times)
    return scale(op, mean, prod(times))


def _mix_back(op: Ops, y_bar: Value, times: Shape) -> Value:
    """A convolution by the shares that a cell has in those around it, one step per cell of x̄.

    What lies beyond the last cells of x is as they are, so that their cotangents take its part.
    """
    n, c, *grown = y_bar.type.shape
    pads = [k + k // 2 if k > 1 else 0 for k in times]
    shares = reduce(np.multiply.outer, map(_shares, times))
    x_bar = op.Conv(
        reshape(op, y_bar, n * c, 1, *grown),
        op.constant(shares[None, None].astype(y_bar.type.dtype)),
        kernel_shape=shares.shape,
        strides=times,
        pads=(*pads, *pads),
    )
    for axis, k in enumerate(times, 2):
        if k > 1:
            x_bar = _fold_ends(op, x_bar, axis)
    return reshape(op, x_bar, n, c, *x_bar.type.spatial)


def _shares(times: int) -> npt.NDArray[np.float64]:
    """What a cell gives to those of y that lie around it, on one axis."""
    reach = 2 * times - times % 2
    distance = (np.arange(reach) - (reach - 1) / 2) / times
    shares: npt.NDArray[np.float64] = 1 - np.abs(distance)
    return shares


def _fold_ends(op: Ops, x: Value, axis: int) -> Value:
    """`x` without the first and the last cell of an axis, which are added to their neighbours."""
    length = x.type.shape[axis]
    none = [0] * (len(x.type.shape) - axis - 1)
    first, inner, last = (
        op.Slice(x, op.ints(start), op.ints(end), op.ints(axis))
        for start, end in ((0, 1), (1, length - 1), (length - 1, length))
    )
    first = pad(op, first, [0, *none], [length - 3, *none])
    last = pad(op, last, [length - 3, *none], [0, *none])
    folded: Value = op.Add(op.Add(inner, first), last)
    return folded
