"""A square of every image becomes 0: T. DeVries, G. W. Taylor, arXiv:1708.04552."""

from __future__ import annotations

import numpy as np

from netspec.codegen.augment.lots import Lots
from netspec.codegen.builder import Builder
from netspec.diagnostics import UsageError
from netspec.ir.graph import Value
from netspec.ir.phrases import cast_to, reshape
from netspec.ir.types import size


def cut_out(op: Builder, side: int, lots: Lots, name: str, x: Value) -> Value:
    """The images `x`, N x C x H x W, without a square of `side` about any of their pixels.

    Of the middle's row and column it begins ⌊side / 2⌋ before; what is outside the image is lost.
    """
    extent = x.type.spatial
    if side > min(extent):
        raise UsageError(
            f"transform: cutout {side} is larger than the images of `{name}`, {size(extent)}"
        )
    batch = x.type.batch
    middles = lots.place("cutout", op.constant(np.array([extent], np.float32)), batch)
    row, column = op.Split(middles, op.ints(1, 1), outputs=2, axis=1)
    inside = op.And(
        _within(op, reshape(op, row, batch, 1, 1, 1), side, extent[0], (1, 1, -1, 1)),
        _within(op, reshape(op, column, batch, 1, 1, 1), side, extent[1], (1, 1, 1, -1)),
    )
    kept: Value = op.Mul(x, cast_to(op, op.Not(inside), "float32"))
    return kept


def _within(
    op: Builder, middle: Value, side: int, extent: int, along: tuple[int, int, int, int]
) -> Value:
    """Whether each cell of an axis is one of the `side` from ⌊side / 2⌋ before the middle on."""
    cells = op.constant(np.arange(extent, dtype=np.float32).reshape(along))
    # ⌊side / 2⌋ before and ⌈side / 2⌉ - 1 behind: as far on both sides of half a cell ahead.
    shift = (side - 1) / 2 - side // 2
    distance = op.Abs(op.Sub(cells, op.Add(middle, op.scalar(shift))))
    within: Value = op.Less(distance, op.scalar(side / 2))
    return within
