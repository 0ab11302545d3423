"""Images that lie as PNG or JPEG files in a folder, a database, an archive: what readers share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from netspec.data.image import decode_bytes, decode_natural, decode_resized, natural_shape
from netspec.data.lazy import Lazy
from netspec.data.tolerance import Tolerance
from netspec.diagnostics import DataError
from netspec.ir.sections import ColourOrder
from netspec.ir.types import Shape
from netspec.wire import Buffer


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

    def lazy(self, shape: Shape, *, resized: bool = False) -> Lazy:
        """The array of images of C x H x W: of this very size, or brought to it as Caffe does."""
        take = decode_resized if resized else decode_bytes
        return Lazy(
            (self.count, *shape),
            decode=lambda i: take(self.name(i), self.content(i), shape, self.order),
            natural=lambda i: decode_natural(self.name(i), self.content(i), self.order),
            name=lambda i: str(self.name(i)),
            tolerance=self.tolerance,
        )
