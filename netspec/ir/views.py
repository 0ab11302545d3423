"""Views of an image at test time: what is cut out where, whether flipped, at which sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from netspec.diagnostics import UsageError
from netspec.ir.types import size

ViewsKind: TypeAlias = Literal["CENTRE", "FLIP", "FIVE_CROP", "TEN_CROP"]
"""Which parts of an image are looked at."""

MAX_SCALE = 10_000
"""The largest side that images are resized to."""

_MIDDLE, _CORNERS = (1, 1), ((0, 0), (0, 2), (2, 0), (2, 2))
_PLACES = {
    "CENTRE": (_MIDDLE,),
    "FLIP": (_MIDDLE,),
    "FIVE_CROP": (*_CORNERS, _MIDDLE),
    "TEN_CROP": (*_CORNERS, _MIDDLE),
}
_FLIPPED = ("FLIP", "TEN_CROP")


@dataclass(frozen=True, slots=True)
class View:
    """One look at an image."""

    scale: int | None
    """What its shorter side is resized to; None: not at all."""
    place: tuple[int, int]
    """How much of the room lies above and to the left: none, half or all of it as 0, 1 and 2."""
    flip: bool
    """Whether it is seen from right to left."""

    def resized(self, extent: Sequence[int]) -> tuple[int, int]:
        """Height and width of an image of `extent` at the view's scale; the longer side floors."""
        height, width = extent
        if self.scale is None:
            return height, width
        short = min(height, width)
        return height * self.scale // short, width * self.scale // short

    def check(self, extent: Sequence[int], window: Sequence[int]) -> None:
        """UsageError unless a window fits into an image of `extent`, with room for a corner."""
        if any(n < m for n, m in zip(extent, window, strict=True)):
            at = f"at scale {self.scale} " if self.scale else ""
            found, taken = size(tuple(extent)), size(tuple(window))
            raise UsageError(f"views: images {at}are {found}, the net takes {taken}")
        if self.place != _MIDDLE and tuple(extent) == tuple(window):
            raise UsageError(
                f"views: corners of {size(tuple(window))} are cut out of larger images, and these "
                "are no larger: a crop_size, pad or scales would give them room"
            )

    def corner(self, extent: Sequence[int], window: Sequence[int]) -> tuple[int, int]:
        """The first row and column of a window in an image that has room for it."""
        top, left = (
            (n - m) * halves // 2 for n, m, halves in zip(extent, window, self.place, strict=True)
        )
        return top, left


@dataclass(frozen=True, slots=True)
class Views:
    """The views whose probabilities are averaged."""

    kind: ViewsKind = "CENTRE"
    scales: tuple[int, ...] = ()

    def __iter__(self) -> Iterator[View]:
        """By scale, then by place, each flipped after it was seen as it is.

        Four corners and the centre, each flipped, are those of Krizhevsky et al. (2012), §4.1.
        """
        for scale in self.scales or (None,):
            for place in _PLACES[self.kind]:
                for flip in (False, True)[: 1 + (self.kind in _FLIPPED)]:
                    yield View(scale, place, flip)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def plain(self) -> bool:
        """Whether there is but one, of the middle of the image as it is."""
        return self == Views()

    def check(self, extent: Sequence[int], window: Sequence[int], pad: int) -> None:
        """UsageError unless each view fits into an image of `extent` that is padded by `pad`."""
        for view in self:
            view.check([n + 2 * pad for n in view.resized(extent)], window)


PLAIN = Views()
"""The middle of the image as it is, and nothing else."""
