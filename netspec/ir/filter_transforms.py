"""Transforms of a filter: fixed linear maps on its taps."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import cos, radians, sin
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Discriminator, Tag

from netspec.ir.fields import Fields, Flag, PositiveReal, Reals, Says, many
from netspec.ir.types import Shape

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MAX_MAP = 2**24
"""The most values of the matrix that makes all transforms of a filter."""

Word: TypeAlias = Literal["identity", "rot90", "rot180", "rot270", "flip"]


@dataclass(frozen=True, slots=True)
class FilterTransform:
    """A filter turned counter-clockwise, or enlarged, or mirrored left to right, about its centre.

    Its size stays: what it would reach from outside is 0.
    """

    degrees: float = 0.0
    scale: float = 1.0
    flip: bool = False

    @property
    def quarter(self) -> bool:
        """Whether it exchanges the axes, or mixes them."""
        return self.degrees % 180 != 0

    def source(self, y: float, x: float) -> tuple[float, float]:
        """Where a tap takes its value from; down and right, from the centre."""
        if self.degrees % 90:
            c, s = cos(radians(self.degrees)), sin(radians(self.degrees))
        else:
            c, s = ((1, 0), (0, 1), (-1, 0), (0, -1))[int(self.degrees // 90) % 4]
        y, x = (x * s + y * c) / self.scale, (x * c - y * s) / self.scale
        return y, -x if self.flip else x

    def matrix(self, kernel: Shape) -> npt.NDArray[np.float64]:
        """Taps x taps: what each tap takes of the filter's, bilinear between neighbours."""
        import numpy as np

        height, width = (1,) * (2 - len(kernel)) + kernel
        taps = np.array(list(product(range(height), range(width))))
        centre = np.array([height - 1, width - 1]) / 2
        sources = np.array([self.source(*tap) for tap in taps - centre]) + centre
        shares: npt.NDArray[np.float64] = (1 - np.abs(sources[:, None] - taps)).clip(0).prod(-1)
        return shares


_WORDS: dict[Word, FilterTransform] = {
    "identity": FilterTransform(),
    "rot90": FilterTransform(degrees=90),
    "rot180": FilterTransform(degrees=180),
    "rot270": FilterTransform(degrees=270),
    "flip": FilterTransform(flip=True),
}


class Listed(Fields):
    """`transforms { rotate: [45, 90]  scale: [0.5, 2] }`: transforms by their numbers."""

    rotate: Reals = ()
    """Degrees counter-clockwise."""
    scale: Annotated[tuple[PositiveReal, ...], BeforeValidator(many)] = ()
    """How many times as large."""
    flip: Flag = False
    """Whether the filter is mirrored too, left to right."""


def _form(value: object) -> str:
    return "{}" if isinstance(value, dict | Listed) else "[]"


Transforms: TypeAlias = Annotated[
    Annotated[
        tuple[Word, ...], BeforeValidator(many), Tag("[]"), Says(f"list of {', '.join(_WORDS)}")
    ]
    | Annotated[Listed, Tag("{}"), Says("{ rotate  scale  flip }")],
    Discriminator(_form),
]
"""A list of words, or a message."""


def listed(transforms: tuple[Word, ...] | Listed) -> tuple[FilterTransform, ...]:
    """The transforms in their order, the identity first whether it is listed or not.

    Those of a message: rotations, scales, the flip. ValueError if one is there twice.
    """
    found = (
        [_WORDS[word] for word in transforms]
        if isinstance(transforms, tuple)
        else [
            *(FilterTransform(degrees=degrees % 360) for degrees in transforms.rotate),
            *(FilterTransform(scale=scale) for scale in transforms.scale),
            *([FilterTransform(flip=True)] if transforms.flip else []),
        ]
    )
    others = [transform for transform in found if transform != FilterTransform()]
    if len(set(others)) < len(others):
        raise ValueError("a transform is listed twice")
    return (FilterTransform(), *others)
