"""A data section's transform as operators: colour, what moves pixels, the arithmetic, cutout."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from netspec.codegen.augment.colour import coloured
from netspec.codegen.augment.cut import Cut, as_float, less
from netspec.codegen.augment.cutout import cut_out
from netspec.codegen.augment.geometry import Geometry, Places
from netspec.codegen.augment.lots import Lots
from netspec.codegen.augment.sampling import (
    bilinear,
    framed,
    nearest,
    resized,
    resized_labels,
)
from netspec.codegen.augment.suited import check_count, check_suited
from netspec.codegen.builder import Builder
from netspec.codegen.whitening import Measured, jittered, standardised, whitened
from netspec.ir.augmentation import Border
from netspec.ir.graph import Value
from netspec.ir.measured import CHANNEL_MEAN
from netspec.ir.phrases import cast_to, reshape
from netspec.ir.transform import MEAN, ColourOrder, Transform
from netspec.ir.types import Shape


@dataclass
class Transforming:
    """A transform at work on the images of one graph, all moved alike, and their labels with them.

    Lots are drawn from what the host feeds: `lots.randoms` holds those that were asked for. What
    only crops and flips left to right copies rows and columns; all else is one resampling.
    """

    op: Builder
    transform: Transform
    training: bool
    measured: Measured = field(default_factory=dict)
    """What it reads beside the samples, by the names of `ir.measured`."""
    drawn: bool = True
    """Whether lots may be drawn; else crops are of the middle and nothing is flipped."""
    order: ColourOrder = "RGB"
    """Which of red and blue comes first."""

    def __post_init__(self) -> None:
        op, augmenting = self.op, self.training and self.drawn
        if not augmenting:
            self.transform = self.transform.tested
        transform, self.lots = self.transform, Lots(op)
        self._resamples = augmenting and transform.moved
        mirrors = transform.mirror and self.drawn
        self._cut = Cut(op, self.lots, transform.crop_size, augmenting, mirrors)
        self._places: dict[Shape, Places] = {}

    @property
    def mean(self) -> Value | None:
        """The mean image, C x H x W, unless whitening has its own use for it."""
        return None if self.transform.whiten else self.measured.get(MEAN)

    def __call__(self, name: str, x: Value) -> Value:
        """What the net gets for the stored images `x`, N x C x H x W."""
        op, transform = self.op, self.transform
        images = self._cut or self._resamples or self.mean or transform.resize
        check_suited(transform, name, x, images=bool(images))
        if transform.whiten:
            x = whitened(op, as_float(op, x), self.measured)
        if transform.coloured:
            x = coloured(op, transform, self.lots, as_float(op, x), self.order)
        if transform.pca_jitter and self.training and self.drawn:
            lots = self.lots.uniform("pca_jitter", x.type.batch, 6)
            x = jittered(op, as_float(op, x), self.measured, lots, transform.pca_jitter)
        if self._resamples:
            x = as_float(op, less(op, x, self.mean))
            x = bilinear(op, x, self._from(x), self._border, transform.fill)
        else:
            x = self._still(x)
        x = self._arithmetic(name, as_float(op, x))
        return cut_out(op, transform.cutout, self.lots, name, x) if transform.cutout else x

    def _still(self, x: Value) -> Value:
        """The images less their mean, no pixel between others but by a `resize` in TEST."""
        op, transform, mean = self.op, self.transform, self.mean
        if transform.pad:
            around = (transform.pad, transform.pad)
            x = framed(op, as_float(op, x), around, transform.border, transform.fill)
        if transform.resize:
            x = resized(op, as_float(op, x), self._extent(x))
            mean = mean and resized(op, mean, self._extent(mean))
        return self._cut(x, mean) if self._cut else less(op, x, mean)

    def labels(self, x: Value, outside: int = 0) -> Value:
        """What the net gets for labels that are images, N x C x H x W or N x H x W: of each cell
        the label that is nearest, beyond the image `outside`."""
        op, transform = self.op, self.transform
        if not (self._resamples or self._cut or transform.pad or transform.resize):
            return x if x.type.dtype == "int64" else cast_to(op, x, "int64")
        batch, *sample = x.type.shape
        found = reshape(op, as_float(op, x), batch, *[1] * (3 - len(sample)), *sample)
        if self._resamples:
            found = nearest(op, found, self._from(found), outside)
        else:
            if transform.pad:
                around = (transform.pad, transform.pad)
                found = framed(op, found, around, "CONSTANT", (outside,))
            if transform.resize:
                found = resized_labels(op, found, self._extent(found))
            found = self._cut(found) if self._cut else found
        found = reshape(op, found, batch, *sample[:-2], *found.type.spatial)
        return cast_to(op, found, "int64")

    @property
    def _border(self) -> Border:
        """A resize alone sees half a cell beyond the edge at most, which then is as the edge."""
        alone = self.transform.resize and not self.transform.moves
        return "EDGE" if alone else self.transform.border

    def _from(self, x: Value) -> Places:
        """Where the pixels of images come from; the same for all of a size."""
        extent = x.type.spatial
        if extent not in self._places:
            geometry = Geometry(self.op, self.transform, self.lots, x.type.batch, extent)
            self._places[extent] = geometry.places()
        return self._places[extent]

    def _extent(self, x: Value) -> Shape:
        """Height and width that planes are cut from in phase TEST."""
        extent = x.type.shape[-2:]
        return tuple(n * self.transform.shorter // min(extent) for n in extent)

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
            check_count(field_name, values.size, name, x)
        if mean.any():
            x = op.Sub(x, _per_channel(op, mean, x))
        return op.Mul(x, _per_channel(op, factor, x)) if (factor != 1).any() else x


def _per_channel(op: Builder, values: npt.NDArray[np.float64], x: Value) -> Value:
    """A constant that broadcasts over batch and spatial axes."""
    if values.size == 1:
        return op.scalar(float(values[0]))
    return op.constant(values.astype(np.float32).reshape(-1, *(1 for _ in x.type.spatial)))
