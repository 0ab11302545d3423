"""Samples that stay encoded on the disk, each decoded when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from math import prod
from typing import Any, TypeAlias, overload

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

    @overload
    def __getitem__(self, rows: int) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, rows: Rows) -> NDArray[Any]: ...
    def __getitem__(self, rows: int | Rows) -> NDArray[Any]:
        """What the array would give: a sample, or those of these numbers. Raises DataError."""
        arrays, _ = decoded({"": self}, np.atleast_1d(np.asarray(rows, np.int64)) % len(self))
        return arrays[""] if np.ndim(rows) else arrays[""][0]

    def chosen(self, rows: Rows) -> Lazy:
        """Some of the samples, in the order of `rows`."""
        kept = rows.tolist()
        return replace(
            self,
            shape=(len(kept), *self.shape[1:]),
            decode=lambda i: self.decode(kept[i]),
            natural=lambda i: self.natural(kept[i]),
            name=lambda i: self.name(kept[i]),
        )

    @property
    def nbytes(self) -> int:
        """Of the array that it stands for."""
        return prod(self.shape) * self.dtype.itemsize


def decoded(lazies: Mapping[str, Lazy], rows: Rows) -> tuple[dict[str, NDArray[Any]], Rows]:
    """Samples, and which they are if others stand in for bad ones. Raises DataError."""
    found = {name: np.empty((len(rows), *a.shape[1:]), a.dtype) for name, a in lazies.items()}
    return found, settled(lazies, [decode_rows(lazies, rows, found)], len(rows))


@dataclass(frozen=True)
class Decoded:
    """Which samples were decoded, in their order, and which could not be."""

    taken: list[int]
    """Fewer than were asked for if more are bad than may be."""
    bad: list[Bad]


def decode_rows(
    lazies: Mapping[str, Lazy], rows: Rows, out: Mapping[str, NDArray[Any]], at: int = 0
) -> Decoded:
    """Decode samples into `out`, from its place `at` on.

    In place of one that cannot be read comes the next that can, in the order of the source and
    from its end on to its begin: this hangs on nothing but the files, so that every epoch and a
    resumed run see the same.
    """
    taken: list[int] = []
    bad: list[Bad] = []
    (lazy, *_) = lazies.values()
    for place, row in enumerate(rows.tolist(), at):
        for candidate in chain(range(row, len(lazy)), range(row)):
            if (found := _decoded(lazies, candidate, out, place)) is None:
                taken.append(candidate)
                break
            bad.append(found)
            if len({each.name for each in bad}) > lazy.tolerance.limit:
                return Decoded(taken, bad)
        else:
            return Decoded(taken, bad)
    return Decoded(taken, bad)


def settled(lazies: Mapping[str, Lazy], parts: Sequence[Decoded], count: int) -> Rows:
    """The `count` samples that were decoded, once those that were not are told.

    Only the main thread calls it. DataError if one too many could not be read.
    """
    (lazy, *_) = lazies.values()
    lazy.tolerance.pass_over(each for part in parts for each in part.bad)
    rows = np.array([row for part in parts for row in part.taken], np.int64)
    if len(rows) < count:
        raise next(part.bad[-1].error for part in reversed(parts) if part.bad)
    return rows


def _decoded(
    lazies: Mapping[str, Lazy], row: int, out: Mapping[str, NDArray[Any]], place: int
) -> Bad | None:
    """Decode one sample; what is wrong with it, if anything is."""
    for name, lazy in lazies.items():
        try:
            out[name][place] = lazy.decode(row)
        except DataError as error:
            return Bad(lazy.name(row), error)
    return None
