"""Resizing: every cell of ȳ goes back to those that it was made of."""

from __future__ import annotations

from math import prod

import numpy as np
import numpy.typing as npt

from netspec.autodiff.vjp import Primal, vjp
from netspec.ir.graph import Ops, Value
from netspec.ir.phrases import reshape, scale
from netspec.ir.types import Shape


@vjp("Resize")
def resize(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """x̄ = Σ of the ȳ that repeat a cell; or, axis by axis, Aᵀ·ȳ for a linear y = A·x."""
    x, *rest = primal.node.inputs
    assert x is not None
    attrs, extent = primal.node.attrs, x.type.spatial
    times = tuple(o // n for o, n in zip(y_bar.type.spatial, extent, strict=True))
    grown = tuple(n * k for n, k in zip(extent, times, strict=True))
    assert y_bar.type.shape == (*x.type.shape[:2], *grown), f"{primal.node.name}: not whole times"
    how = attrs.get("mode", "nearest"), attrs["coordinate_transformation_mode"]
    if how == ("nearest", "asymmetric"):
        assert attrs["nearest_mode"] == "floor", primal.node.name
        x_bar = _sum_copies(op, y_bar, times)
    else:
        assert how == ("linear", "half_pixel"), f"{primal.node.name}: {how} has no gradient rule"
        x_bar = _mix_back(op, y_bar, extent)
    return [x_bar, *(None for _ in rest)]


def _sum_copies(op: Ops, y_bar: Value, times: Shape) -> Value:
    """The sum of each tile of `times` cells, as a pool of these windows."""
    mean = op.AveragePool(y_bar, kernel_shape=times, strides=times)
    return scale(op, mean, prod(times))


def _mix_back(op: Ops, y_bar: Value, extent: Shape) -> Value:
    """A product for each axis, which also turns the two; an image has two that are not 1."""
    n, c, *grown = y_bar.type.shape
    assert len(grown) == 2, f"{len(grown)} axes"
    cells = reshape(op, y_bar, n * c, *grown)
    for cells_out, cells_in in zip(grown, extent, strict=True):
        mixing = op.constant(_mixing(cells_in, cells_out).astype(y_bar.type.dtype))
        cells = op.FusedMatMul(cells, mixing, transA=1)
    return reshape(op, cells, n, c, *extent)


def _mixing(cells_in: int, cells_out: int) -> npt.NDArray[np.float64]:
    """A, out x in: the shares that interpolation takes of its two nearest cells."""
    place = (np.arange(cells_out) + 0.5) * cells_in / cells_out - 0.5
    place = place.clip(0, cells_in - 1)[:, None]
    shares: npt.NDArray[np.float64] = (1 - np.abs(place - np.arange(cells_in))).clip(0)
    return shares
