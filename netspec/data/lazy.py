"""Samples that stay encoded on the disk, each decoded when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from netspec.data.tolerance import Bad, Tolerance
from netspec.diagnostics import DataError
from netspec.ir.types import Shape

Rows: TypeAlias = NDArray[np.int64]
"""Numbers of samples, counted from 0."""


@dataclass(frozen=True)
class Lazy:
    """What stands for an array of samples that is not in memory.

    All that take the number of a sample may be called in threads, and raise DataError.
    """

    shape: Shape
    """N x C x H x W."""
    decode: Callable[[int], NDArray[Any]]
    """A sample, C x H x W."""
    natural: Callable[[int], NDArray[Any]]
    """The image as it was stored, of any channels, height and width."""
    name: Callable[[int], str]
    """What faults call a sample."""
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.uint8))
    tolerance: Tolerance = field(default_factory=Tolerance)
    """What becomes of samples that cannot be read; the same for all arrays of a data set."""

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Of the array that it stands for."""
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Decoded:
    """Which samples were decoded, in their order, and which could not be."""

    taken: list[int]
    bad: list[Bad]


def decode_rows(
    lazies: Mapping[str, Lazy], rows: Rows, out: Mapping[str, NDArray[Any]], at: int = 0
) -> Decoded:
    """Decode samples into `out`, from its place `at` on.

    In place of one that cannot be read comes the next that can, in the order of the source and
    from its end on to its begin: this hangs on nothing but the files, so that every epoch and a
    resumed run see the same. Raises the DataError of the first that nothing may stand in for.
    """
    taken: list[int] = []
    bad: list[Bad] = []
    (lazy, *_) = lazies.values()
    for place, row in enumerate(rows.tolist(), at):
        tried = 0
        while (found := _decoded(lazies, row, out, place)) is not None:
            bad.append(found)
            tried += 1
            if tried == len(lazy) or len({each.name for each in bad}) > lazy.tolerance.limit:
                raise lazy.tolerance.refused(found)
            row = (row + 1) % len(lazy)
        taken.append(row)
    return Decoded(taken, bad)


def _decoded(
    lazies: Mapping[str, Lazy], row: int, out: Mapping[str, NDArray[Any]], place: int
) -> Bad | None:
    """Decode one sample; what is wrong with it, if anything is."""
    for name, lazy in lazies.items():
        try:
            out[name][place] = lazy.decode(row)
        except DataError as error:
            found = Bad(lazy.name(row), error)
            if not lazy.tolerance.bears(found):
                raise lazy.tolerance.refused(found) from None
            return found
    return None
