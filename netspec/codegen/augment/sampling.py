"""Images between their pixels: bilinear, or of labels the nearest.

GatherElements takes 1.3 ms for all of 64 x 3 x 32 x 32 on two cores, where GridSample takes 6, as
it shares out no more than an image's channels, and Gather 12.
"""

from __future__ import annotations

from math import prod

import numpy as np

from netspec.codegen.augment.geometry import Places
from netspec.codegen.builder import Builder
from netspec.ir.augmentation import Border
from netspec.ir.graph import Value
from netspec.ir.phrases import reshape, spread
from netspec.ir.types import Shape

_Fill = tuple[float, ...]


def framed(
    op: Builder, x: Value, around: tuple[int, int], border: Border, fill: _Fill = ()
) -> Value:
    """`x` with so many cells before and behind on every spatial axis: of the value 0, of a `fill`,
    or one per channel, or as the border says."""
    axes = range(2, len(x.type.shape))
    if border == "CONSTANT" and len(set(fill)) > 1:
        outside = op.constant(np.array(fill, np.float32).reshape(-1, *(1 for _ in axes)))
        refilled: Value = op.Add(framed(op, op.Sub(x, outside), around, border), outside)
        return refilled
    ends = op.ints(*[around[0]] * len(axes), *[around[1]] * len(axes))
    value = op.scalar(fill[0] if fill else 0) if border == "CONSTANT" else None
    padded: Value = op.Pad(x, ends, value, op.ints(*axes), mode=border.lower())
    return padded


def resized(op: Builder, x: Value, extent: Shape) -> Value:
    """Planes of another height and width, bilinear, without smoothing; as they are at their own."""
    if extent == x.type.shape[-2:]:
        return x
    stacked = x if len(x.type.shape) == 4 else op.Unsqueeze(x, op.ints(0))
    made: Value = op.Resize(
        stacked, None, None, op.ints(*extent), axes=(2, 3),
        mode="linear", coordinate_transformation_mode="half_pixel",
    )  # fmt: skip
    return made if stacked is x else op.Squeeze(made, op.ints(0))


def resized_labels(op: Builder, x: Value, extent: Shape) -> Value:
    """Planes of another height and width, each cell as the nearest; of two alike, the later one."""
    for axis, (n, m) in enumerate(zip(x.type.spatial, extent, strict=True), 2):
        cells = np.floor((np.arange(m) + 0.5) * n / m).astype(np.int64)
        x = op.Gather(x, op.constant(cells), axis=axis)
    return x


def bilinear(op: Builder, x: Value, places: Places, border: Border, fill: _Fill = ()) -> Value:
    """The images `x`, N x C x H x W, at `places`: N x C x h x w."""
    table = _Table(op, x, border, fill)
    rows, down = table.cell(places.rows, x.type.spatial[0])
    columns, right = table.cell(places.columns, x.type.spatial[1])
    first = table.index(rows, columns)
    above, below = (
        _between(op, table.at(first, step), table.at(first, step + 1), right)
        for step in (0, table.width)
    )
    return _between(op, above, below, down)


def nearest(op: Builder, x: Value, places: Places, outside: float) -> Value:
    """The cells of `x`, N x C x H x W, nearest to `places`; of two alike, the later one."""
    table = _Table(op, x, "CONSTANT", (outside,))
    half = op.scalar(0.5)
    rows, _ = table.cell(op.Add(places.rows, half), x.type.spatial[0])
    columns, _ = table.cell(op.Add(places.columns, half), x.type.spatial[1])
    return table.at(table.index(rows, columns), 0)


class _Table:
    """Planes with a border of one cell before and two behind, each plane a row."""

    def __init__(self, op: Builder, x: Value, border: Border, fill: _Fill) -> None:
        self._op, self._extent = op, x.type.spatial
        self._border = border
        edge: Border = "CONSTANT" if border == "CONSTANT" else "EDGE"
        padded = framed(op, x, (1, 2), edge, fill)
        self._planes: Shape = x.type.shape[:2]
        self.width = padded.type.shape[3]
        self._cells = reshape(op, padded, prod(self._planes), prod(padded.type.spatial))

    def cell(self, place: Value, extent: int) -> tuple[Value, Value]:
        """The cell of the table at or before a place, and how far behind it the place is."""
        op = self._op
        if self._border == "REFLECT":
            place = _reflected(op, place, extent)
        place = op.Add(place, op.scalar(1))
        place = op.Clip(place, op.scalar(0), op.scalar(extent + 1))
        cell = op.Cast(place, to="int32")
        return cell, op.Sub(place, op.Cast(cell, to="float32"))

    def index(self, rows: Value, columns: Value) -> Value:
        """The cells of every plane, N·C x h·w, by their place in it."""
        op, (batch, channels) = self._op, self._planes
        cells = op.Add(op.Mul(rows, op.scalar(self.width, "int32")), columns)
        self._extent = cells.type.spatial
        cells = spread(op, cells, (batch, channels, *self._extent))
        return reshape(op, cells, batch * channels, prod(self._extent))

    def at(self, index: Value, step: int) -> Value:
        """The values so many cells behind an index, N x C x h x w."""
        op = self._op
        if step:
            index = op.Add(index, op.scalar(step, "int32"))
        found = op.GatherElements(self._cells, index, axis=1)
        return reshape(op, found, *self._planes, *self._extent)


def _reflected(op: Builder, place: Value, extent: int) -> Value:
    """A place mirrored into [0, extent - 1] at the middles of the outermost cells."""
    period = max(2 * (extent - 1), 1)
    turns = op.Floor(op.Add(op.Mul(place, op.scalar(1 / period)), op.scalar(0.5)))
    mirrored: Value = op.Abs(op.Sub(place, op.Mul(turns, op.scalar(period))))
    return mirrored


def _between(op: Builder, one: Value, other: Value, share: Value) -> Value:
    """one + (other - one) · share."""
    between: Value = op.Add(one, op.Mul(op.Sub(other, one), share))
    return between
