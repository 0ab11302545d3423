"""Crops and flips left to right: rows and columns of the images, copied as they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from netspec.codegen.augment.lots import Lots
from netspec.codegen.builder import Builder
from netspec.ir.graph import Value
from netspec.ir.phrases import cast_to, reshape


@dataclass(frozen=True)
class Cut:
    """A crop, and a flip by lot, of all images of a graph alike.

    Where a crop begins is ⌊u · (n - crop + 1)⌋, which for a u of at most 1 - 2^-24 never rounds up
    to n - crop + 1.
    """

    op: Builder
    lots: Lots
    crop: int
    """Height and width that are left; 0: all."""
    anywhere: bool
    """Whether crops are drawn by lot; else they are of the middle."""
    mirrors: bool

    def __bool__(self) -> bool:
        """Whether anything is to be done."""
        return bool(self.crop or self.mirrors)

    def __call__(self, x: Value, mean: Value | None = None) -> Value:
        """What the crop leaves of every image, less the same part of the mean, some flipped."""
        op, crop, extent, left = self.op, self.crop, x.type.spatial, None
        if crop and extent != (crop, crop):
            if self.anywhere:
                top, left = self._corners(x)
                mean = self._rows(mean, top, crop) if mean else None
                x = self._rows(x, top, crop)
            else:
                x = _middle(op, x, crop)
                mean = _middle(op, mean, crop) if mean else None
        x = less(op, x, mean)
        if left is None and not self.mirrors:
            return x
        return self._columns(x, left)

    def _corners(self, x: Value) -> tuple[Value, Value]:
        """The first row and column that each crop sees, N x 1."""
        op, crop = self.op, self.crop
        places = np.array([n - crop + 1 for n in x.type.spatial], np.float32)
        drawn = op.Mul(self.lots.uniform("crop", x.type.batch, 2), op.constant(places))
        top, left = op.Split(cast_to(op, drawn, "int64"), op.ints(1, 1), outputs=2, axis=1)
        return top, left

    def _rows(self, x: Value, top: Value, count: int) -> Value:
        """`count` rows of every plane from `top` on; one `x` without a batch serves all."""
        op, (channels, height, width) = self.op, x.type.shape[-3:]
        places = np.add.outer(_count(channels) * height, _count(count)).reshape(1, -1)
        wanted = op.Add(top, op.constant(places))
        if len(x.type.shape) == 4:
            wanted = op.Add(wanted, _firsts(op, x.type.batch, channels * height))
        rows = op.Gather(reshape(op, x, -1, width), wanted, axis=0)
        return reshape(op, rows, top.type.batch, channels, count, width)

    def _columns(self, x: Value, left: Value | None) -> Value:
        """Columns from `left` on, those of some images from right to left.

        What Gather copies fast are the pixels of a column side by side: 8 ms for 64 x 3 x 227 x
        227 bytes with both transposes, where GatherElements takes 20.
        """
        op, (batch, channels, height, width) = self.op, x.type.shape
        crop = self.crop or width
        wanted = op.Add(_firsts(op, batch, width), self._directions(batch, crop))
        if left is not None:
            wanted = op.Add(wanted, left)
        turned = op.Transpose(reshape(op, x, batch, channels * height, width), perm=(0, 2, 1))
        columns = op.Gather(reshape(op, turned, batch * width, channels * height), wanted, axis=0)
        seen = op.Transpose(columns, perm=(0, 2, 1))
        return reshape(op, seen, batch, channels, height, crop)

    def _directions(self, batch: int, width: int) -> Value:
        """The columns of each image in the order in which they are seen."""
        op, onward = self.op, _count(width).reshape(1, -1)
        if not self.mirrors:
            return op.constant(onward)
        flipped = op.Less(self.lots.uniform("mirror", batch), op.scalar(0.5))
        seen: Value = op.Where(
            flipped, op.constant(np.ascontiguousarray(onward[:, ::-1])), op.constant(onward)
        )
        return seen


def less(op: Builder, x: Value, mean: Value | None) -> Value:
    """x - mean, in float32; `x` as it is without one."""
    if mean is None:
        return x
    rest: Value = op.Sub(as_float(op, x), mean)
    return rest


def as_float(op: Builder, x: Value) -> Value:
    """`x` in float32."""
    return x if x.type.dtype == "float32" else cast_to(op, x, "float32")


def _middle(op: Builder, x: Value, crop: int) -> Value:
    """The middle of every plane, from ⌊(n - crop) / 2⌋ on."""
    rank = len(x.type.shape)
    first = [(n - crop) // 2 for n in x.type.shape[-2:]]
    middle: Value = op.Slice(
        x, op.ints(*first), op.ints(*(n + crop for n in first)), op.ints(rank - 2, rank - 1)
    )
    return middle


def _firsts(op: Builder, batch: int, step: int) -> Value:
    """Where each sample begins in a table of `step` rows per sample, N x 1."""
    return op.constant(_count(batch).reshape(-1, 1) * step)


def _count(n: int) -> npt.NDArray[np.int64]:
    return np.arange(n, dtype=np.int64)
