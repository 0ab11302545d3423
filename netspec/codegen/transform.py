"""A data section's transform as operators: pad, crop, mirror, then the arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from netspec.codegen.builder import Builder
from netspec.codegen.whitening import Measured, jittered, standardised, whitened
from netspec.diagnostics import UsageError
from netspec.ir.graph import Value
from netspec.ir.measured import CHANNEL_MEAN
from netspec.ir.phrases import cast_to, reshape
from netspec.ir.sections import MEAN, Transform
from netspec.ir.types import TensorType


@dataclass
class Transforming:
    """A transform at work on the images of one graph, all cut and flipped alike.

    Lots are drawn from what the host feeds: `randoms` holds those that were asked for. Where a
    crop begins is ⌊u · (n - crop + 1)⌋, which for a u of at most 1 - 2^-24 never rounds up to
    n - crop + 1.
    """

    op: Builder
    transform: Transform
    training: bool
    measured: Measured = field(default_factory=dict)
    """What it reads beside the samples, by the names of `ir.measured`."""
    drawn: bool = True
    """Whether lots may be drawn; else crops are of the middle and nothing is flipped."""
    randoms: dict[str, Value] = field(default_factory=dict)

    @property
    def mean(self) -> Value | None:
        """The mean image, C x H x W, unless whitening has its own use for it."""
        return None if self.transform.whiten else self.measured.get(MEAN)

    def __call__(self, name: str, x: Value) -> Value:
        """What the net gets for the stored images `x`, N x C x H x W."""
        transform = self.transform
        if transform.whiten:
            x = whitened(self.op, self._float(x), self.measured)
        if transform.pca_jitter and self.training and self.drawn:
            lots = self._random("pca_jitter", x.type.batch, 6)
            x = jittered(self.op, self._float(x), self.measured, lots, transform.pca_jitter)
        moves = transform.crop_size or (transform.mirror and self.drawn)
        if (moves or self.mean) and len(x.type.shape) != 4:
            raise UsageError(
                f"transform: crop_size, mirror and mean_file are for images, and `{name}` is not"
            )
        if transform.pad:
            x = _padded(self.op, self._float(x), transform.pad)
        x = self._seen(x) if moves else self._less(x, self.mean)
        return self._arithmetic(name, self._float(x))

    def _seen(self, x: Value) -> Value:
        """What the crop leaves of every image, less the same part of the mean, some flipped."""
        crop, extent = self.transform.crop_size, x.type.spatial
        mean, left = self.mean, None
        if crop and extent != (crop, crop):
            if self.training and self.drawn:
                top, left = self._corners(x)
                mean = self._rows(mean, top, crop) if mean else None
                x = self._rows(x, top, crop)
            else:
                x = _middle(self.op, x, crop)
                mean = _middle(self.op, mean, crop) if mean else None
        x = self._less(x, mean)
        if left is None and not (self.transform.mirror and self.drawn):
            return x
        return self._columns(x, left)

    def _corners(self, x: Value) -> tuple[Value, Value]:
        """The first row and column that each crop sees, N x 1."""
        op, crop = self.op, self.transform.crop_size
        places = np.array([n - crop + 1 for n in x.type.spatial], np.float32)
        drawn = op.Mul(self._random("crop", x.type.batch, 2), op.constant(places))
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
        crop = self.transform.crop_size or width
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
        if not self.transform.mirror:
            return op.constant(onward)
        flipped = op.Less(self._random("mirror", batch, 1), op.scalar(0.5))
        seen: Value = op.Where(
            flipped, op.constant(np.ascontiguousarray(onward[:, ::-1])), op.constant(onward)
        )
        return seen

    def _random(self, kind: str, *shape: int) -> Value:
        """Uniform numbers of the host, the same for every input."""
        name = f"transform#{kind}"
        if name not in self.randoms:
            self.randoms[name] = self.op.input(f"random:{name}", TensorType(shape))
        return self.randoms[name]

    def _less(self, x: Value, mean: Value | None) -> Value:
        return x if mean is None else self.op.Sub(self._float(x), mean)

    def _float(self, x: Value) -> Value:
        return x if x.type.dtype == "float32" else cast_to(self.op, x, "float32")

    def _arithmetic(self, name: str, x: Value) -> Value:
        """(x - mean) · (scale / std), without what is neutral."""
        op, transform = self.op, self.transform
        if CHANNEL_MEAN in self.measured:
            x = standardised(op, x, self.measured)
        if transform.standardize or transform.whiten:
            return x
        mean = np.array(transform.mean_value or (0.0,))
        factor = transform.scale / np.array(transform.std or (1.0,))
        for field_name, values in (("mean_value", mean), ("std", factor)):
            if values.size not in (1, x.type.channels):
                raise UsageError(
                    f"transform: {field_name} has {values.size} values, "
                    f"but {name} has {x.type.channels} channels"
                )
        if mean.any():
            x = op.Sub(x, _per_channel(op, mean, x))
        return op.Mul(x, _per_channel(op, factor, x)) if (factor != 1).any() else x


def _padded(op: Builder, x: Value, pad: int) -> Value:
    axes = range(2, 2 + len(x.type.spatial))
    ends = [pad] * (2 * len(axes))
    padded: Value = op.Pad(x, op.ints(*ends), op.scalar(0), op.ints(*axes))
    return padded


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


def _per_channel(op: Builder, values: npt.NDArray[np.float64], x: Value) -> Value:
    """A constant that broadcasts over batch and spatial axes."""
    if values.size == 1:
        return op.scalar(float(values[0]))
    return op.constant(values.astype(np.float32).reshape(-1, *(1 for _ in x.type.spatial)))
