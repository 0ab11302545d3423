"""Sums over samples, several at once in one pass, in float64 and some samples at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from netspec.data.lazy import Lazy
from netspec.data.prefetch import Prefetch

Array: TypeAlias = NDArray[Any] | Lazy
Reals: TypeAlias = NDArray[np.float64]
Addend: TypeAlias = Callable[[Reals], Reals]
"""What some samples add to a sum."""

_VALUES = 2**21
"""Of the samples that are looked at in one go: 16 MB in float64."""


def pieces(array: Array) -> Iterator[NDArray[Any]]:
    """The samples of an array in their order, some at a time; DataError if one cannot be read.

    What is streamed is decoded by threads, some ahead of those that are looked at.
    """
    step = min(len(array), max(1, _VALUES // max(1, prod(array.shape[1:]))))
    starts = range(0, len(array), step)
    if not isinstance(array, Lazy):
        yield from (array[start : start + step] for start in starts)
        return
    cut = [np.arange(start, min(start + step, len(array))) for start in starts]
    ahead = Prefetch({"": array}, step, lambda number: cut[number] if number < len(cut) else None)
    with closing(ahead):
        for number, rows in enumerate(cut):
            yield ahead.take(number, rows)[""][: len(rows)]


def totals(some: Iterable[NDArray[Any]], addends: Mapping[str, Addend]) -> dict[str, Reals]:
    """Each sum over all samples."""
    found: dict[str, Reals] = {name: np.zeros(()) for name in addends}
    for piece in some:
        values = np.asarray(piece, np.float64) if addends else piece
        for name, addend in addends.items():
            found[name] = found[name] + addend(values)
    return found


def samples(some: Reals) -> Reals:
    """Σx, in the shape of a sample."""
    total: Reals = some.sum(axis=0)
    return total


def channels(some: Reals) -> Reals:
    """Σx of every channel, over all positions."""
    total: Reals = _by_channel(some).sum(axis=1)
    return total


def squares(mean: Reals) -> Addend:
    """Σ(x - mean)² of every channel."""
    return lambda some: ((_by_channel(some) - mean[:, np.newaxis]) ** 2).sum(axis=1)


def products(mean: Reals) -> Addend:
    """Σ(x - mean)(x - mean)ᵀ, x the channels of a position."""

    def of(some: Reals) -> Reals:
        pixels = _by_channel(some) - mean[:, np.newaxis]
        return pixels @ pixels.T

    return of


def sample_products(mean: Reals) -> Addend:
    """Σ(x - mean)ᵀ(x - mean), x a sample as a row."""

    def of(some: Reals) -> Reals:
        rows = (some - mean).reshape(len(some), mean.size)
        return rows.T @ rows

    return of


def _by_channel(some: Reals) -> Reals:
    """A row for each channel."""
    return np.moveaxis(some, 1, 0).reshape(some.shape[1], -1)
