"""Where each pixel of a moved image comes from: all that moves pixels as one map.

Before: an image of H x W, and lots. After: a row and a column of it for each pixel that is seen,
v → D⁻¹ · F⁻¹ · (S·v + o - t), and through the lens, about the image's middle.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np

from netspec.codegen.augment.lots import Lots
from netspec.codegen.builder import Builder
from netspec.diagnostics import UsageError
from netspec.ir.graph import Value
from netspec.ir.phrases import reshape
from netspec.ir.ranges import NOTHING
from netspec.ir.transform import Transform
from netspec.ir.types import Shape, size


@dataclass(frozen=True)
class Places:
    """A row and a column, N x 1 x h x w each, for every pixel that is seen.

    Of an image that stays upright rows are N x 1 x h x 1 and columns N x 1 x 1 x w.
    """

    rows: Value
    columns: Value


@dataclass(frozen=True)
class _Line:
    """by_row · v_row + by_column · v_column + start: one coordinate of a map, each part N x 1.

    Of an image that stays upright, one of the two is not there.
    """

    by_row: Value | None
    by_column: Value | None
    start: Value


@dataclass(frozen=True)
class Geometry:
    """The map of a batch of images of `stored` height and width."""

    op: Builder
    transform: Transform
    lots: Lots
    batch: int
    stored: Shape

    def places(self) -> Places:
        """Where the pixels that are seen come from, in cells of the image from (0, 0) on."""
        op, transform = self.op, self.transform
        self._check()
        seen = self._seen()
        rows, columns = (self._grid(line, seen) for line in self._lines())
        if transform.draws("distortion"):
            rows, columns = self._through_lens(rows, columns)
        middle = [(n - 1) / 2 for n in self.stored]
        return Places(op.Add(rows, op.scalar(middle[0])), op.Add(columns, op.scalar(middle[1])))

    def _check(self) -> None:
        transform, room = self.transform, min(self.stored) + 2 * self.transform.pad
        far = max(map(abs, transform.translation))
        if not transform.resize and far >= room:
            raise UsageError(
                f"transform: translation by up to {far:g} pixels leaves nothing of images of "
                f"{size(self.stored)}"
            )

    def _seen(self) -> Shape:
        crop, pad = self.transform.crop_size, self.transform.pad
        return (crop, crop) if crop else tuple(n + 2 * pad for n in self.stored)

    def _lines(self) -> tuple[_Line, _Line]:
        """The map of a pixel, both ends counted from their middles: to its row, to its column.

        F = [[z·s·cos r, -z/s·sin(r + φ)], [z·s·sin r, z/s·cos(r + φ)]] of (x, y) is zoom and
        stretch, then shear, then rotation, as in scikit-image's AffineTransform.
        """
        op, transform, lots, n = self.op, self.transform, self.lots, self.batch
        radians = op.scalar(-pi / 180)  # rows count downwards, and angles against the clock
        turn = op.Mul(lots.between("rotation", transform.rotation, n), radians)
        lean = op.Mul(lots.between("shear", transform.shear, n), radians)
        zoom = lots.factor("zoom", transform.zoom, n)
        stretch = lots.factor("stretch", transform.stretch, n)
        scales, start = self._canvas()
        row_scale, column_scale = scales
        wide = op.Mul(op.Mul(op.Mul(zoom, stretch), op.Cos(lean)), column_scale)
        high = op.Mul(op.Mul(op.Div(zoom, stretch), op.Cos(lean)), row_scale)
        leaning = op.Add(turn, lean)
        if not (transform.draws("rotation") or transform.draws("shear")):
            one = op.scalar(1)
            return (
                self._line(op.Div(one, high), None, start),
                self._line(None, op.Div(one, wide), start),
            )
        return (
            self._line(op.Div(op.Cos(turn), high), op.Div(op.Neg(op.Sin(turn)), high), start),
            self._line(op.Div(op.Sin(leaning), wide), op.Div(op.Cos(leaning), wide), start),
        )

    def _line(
        self, by_row: Value | None, by_column: Value | None, start: tuple[Value, Value]
    ) -> _Line:
        """With the start moved, and the directions as flips have them."""
        op, transform = self.op, self.transform
        parts = zip((by_row, by_column), start, strict=True)
        moved = op.Sum(*(op.Mul(by, at) for by, at in parts if by is not None))
        by_row = self._flipped("flip_vertical", by_row, flips=transform.flip_vertical)
        return _Line(by_row, self._flipped("mirror", by_column, flips=transform.mirror), moved)

    def _flipped(self, kind: str, by: Value | None, *, flips: bool) -> Value | None:
        """A direction, the other way round by lot."""
        if by is None or not flips:
            return by
        flipped: Value = self.op.Mul(by, self.lots.sign(kind, self.batch))
        return flipped

    def _canvas(self) -> tuple[tuple[Value, Value], tuple[Value, Value]]:
        """How much larger than the image what is cut is, and where on it the middle of the cut
        lies, less the translation: each by row and by column."""
        op, transform, n = self.op, self.transform, self.batch
        stored = op.constant(np.array(self.stored, np.float32).reshape(1, 2))
        canvas, scale = op.Add(stored, op.scalar(2.0 * transform.pad)), op.constant(_ONES)
        if transform.resize:
            canvas = self._resized(stored)
            scale = op.Div(canvas, stored)
        start = op.constant(_ONES * 0)
        if transform.crop_size:
            spare = op.Sub(canvas, op.scalar(transform.crop_size))
            first = self.lots.place("crop", op.Add(spare, op.scalar(1)), n)
            start = op.Sub(first, op.Mul(spare, op.scalar(0.5)))
        if transform.translation != NOTHING:
            start = op.Sub(start, self.lots.between("translation", transform.translation, n, 2))
        (row_scale, column_scale), (row, column) = (
            op.Split(both, op.ints(1, 1), outputs=2, axis=1) for both in (scale, start)
        )
        return (row_scale, column_scale), (row, column)

    def _resized(self, stored: Value) -> Value:
        """Height and width of each image when its shorter side is as drawn: ⌊n · s / shorter⌋."""
        op = self.op
        assert self.transform.resize
        low, high = self.transform.resize
        shorter = op.Floor(self.lots.between("resize", (low, high + 1), self.batch))
        extent: Value = op.Floor(
            op.Div(op.Mul(op.Min(shorter, op.scalar(high)), stored), op.scalar(min(self.stored)))
        )
        return extent

    def _grid(self, line: _Line, seen: Shape) -> Value:
        """One coordinate of every pixel: what all rows share is added to what all columns do."""
        op, grid = self.op, self._planar(line.start)
        for by, axis in ((line.by_row, 2), (line.by_column, 3)):
            if by is not None:
                n = seen[axis - 2]
                cells = np.arange(n, dtype=np.float32) - np.float32((n - 1) / 2)
                along = op.constant(cells.reshape([-1 if i == axis else 1 for i in range(4)]))
                grid = op.Add(grid, op.Mul(self._planar(by), along))
        return grid

    def _planar(self, values: Value) -> Value:
        """One number for each image, or for all, as N x 1 x 1 x 1."""
        op = self.op
        return reshape(op, op.Expand(values, op.ints(self.batch, 1)), self.batch, 1, 1, 1)

    def _through_lens(self, rows: Value, columns: Value) -> tuple[Value, Value]:
        """r → r · (1 + k · r²), r being 1 at the middle of the nearest edge."""
        op, unit = self.op, min(self.stored) / 2
        bend = op.Mul(
            self.lots.between("distortion", self.transform.distortion, self.batch),
            op.scalar(unit**-2),
        )
        square = op.Add(op.Mul(rows, rows), op.Mul(columns, columns))
        factor = op.Add(op.Mul(square, self._planar(bend)), op.scalar(1))
        return op.Mul(rows, factor), op.Mul(columns, factor)


_ONES = np.ones((1, 2), np.float32)
