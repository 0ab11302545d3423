"""Images that lie as PNG or JPEG files in a folder, a database, an archive: what readers share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from netspec.data.dataset import Wanted
from netspec.data.files.image import (
    decode_bytes,
    decode_natural,
    decode_scaled,
    image_shape,
    natural_shape,
    strict,
)
from netspec.data.lazy import Lazy
from netspec.data.tolerance import Tolerance
from netspec.diagnostics import DataError
from netspec.ir.transform import ColourOrder
from netspec.ir.types import Shape
from netspec.wire import Buffer

Decode: TypeAlias = Callable[[Path | str, Buffer, Shape, ColourOrder], NDArray[np.uint8]]
"""An image of C x H x W from the bytes of a file."""


@dataclass(frozen=True)
class Encoded:
    """The image files of a source, by number; both functions may be called in threads."""

    count: int
    name: Callable[[int], Path | str]
    """What faults call the file."""
    content: Callable[[int], Buffer]
    """Its bytes; DataError if they cannot be read."""
    order: ColourOrder
    """Which of red and blue comes first in what is decoded."""
    tolerance: Tolerance

    @classmethod
    def of_files(cls, files: Sequence[Path], wanted: Wanted, order: ColourOrder) -> Encoded:
        """Files in folders; `order` is theirs unless the section says another."""
        return cls(
            len(files),
            name=lambda i: files[i],
            content=lambda i: wanted.content(files[i]),
            order=wanted.order(order),
            tolerance=wanted.tolerance,
        )

    def natural_shape(self) -> Shape:
        """C x H x W of the first image as it is; of the first that can be read, if some need not.

        Call it within `strict`.
        """
        for i in range(self.count):
            try:
                return natural_shape(self.name(i), self.content(i))
            except DataError:
                if i >= self.tolerance.limit or i + 1 == self.count:
                    raise
        raise AssertionError("a source without images is refused before")

    def shape(self, path: Path, wanted: Wanted) -> Shape:
        """C x H x W of every image: as the section or the net says, else as the first one is."""
        section = wanted.section
        with strict():
            shape = image_shape(path, wanted.shape) if wanted.shape else self.natural_shape()
            if section.new_height:
                return (shape[0], section.new_height, section.new_width)
            return (shape[0], *self.natural_shape()[1:]) if wanted.cropped else shape

    def images(self, path: Path, wanted: Wanted) -> Lazy:
        """The array of all images, brought to one size if the section says which."""
        take = decode_scaled if wanted.section.new_height else decode_bytes
        return self.lazy(self.shape(path, wanted), take)

    def lazy(self, shape: Shape, take: Decode = decode_bytes) -> Lazy:
        """The array of images of C x H x W, each decoded by `take`."""
        return Lazy(
            (self.count, *shape),
            decode=lambda i: take(self.name(i), self.content(i), shape, self.order),
            natural=lambda i: decode_natural(self.name(i), self.content(i), self.order),
            name=lambda i: str(self.name(i)),
            tolerance=self.tolerance,
        )
