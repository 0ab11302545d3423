"""Means, deviations and principal components of samples, in as few passes over them as can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod

import numpy as np

from netspec.data.totals import (
    Addend,
    Array,
    Reals,
    channels,
    pieces,
    products,
    sample_products,
    samples,
    squares,
    totals,
)
from netspec.ir.measured import CHANNEL_MEAN, CHANNEL_STD, COLOUR, WHITENING
from netspec.ir.transform import MEAN, Transform


@dataclass(frozen=True)
class Survey:
    """What is to be known of samples, those of all arrays together.

    Means take one pass, and what is centred on them a second one. But for bytes: their Σx and Σx·xᵀ
    are whole numbers, which float64 holds up to 2^53, those of some 10^11 pixels, and of which the
    centred sum comes without any loss. The covariance of whole samples is left to the second pass:
    a matrix of millions of values would have to be computed in exact numbers.
    """

    arrays: Sequence[Array]
    names: frozenset[str]
    """Of `ir.measured`; a deviation comes with its mean, a whitening with the mean sample."""
    transform: Transform
    """How samples are whitened."""

    @property
    def first(self) -> dict[str, Addend]:
        """What the first pass adds up."""
        found: dict[str, Addend] = {}
        if MEAN in self.names:
            found[MEAN] = samples
        if self.names & {CHANNEL_MEAN, COLOUR}:
            found[CHANNEL_MEAN] = channels
            if self._whole:
                found |= self._about(np.zeros(self._channels))
        return found

    def added_up(self, addends: Mapping[str, Addend]) -> dict[str, Reals]:
        """A pass over the samples."""
        return totals(chain.from_iterable(map(pieces, self.arrays)), addends)

    def measured(self, first: Mapping[str, Reals]) -> dict[str, Reals]:
        """All of it, from what the first pass added up, and from a second pass if need be.

        `CHANNEL_STD` is the deviation of the population over all positions, 1 where it is 0.
        """
        count = sum(map(len, self.arrays))
        made: dict[str, Reals] = {}
        if MEAN in self.names:
            made[MEAN] = first[MEAN] / count
        if CHANNEL_MEAN in first:
            made[CHANNEL_MEAN] = first[CHANNEL_MEAN] / self._pixels
        sums = {**first, **self._second(made)}
        if CHANNEL_STD in self.names:
            deviation = np.sqrt(self._spread(sums[CHANNEL_STD], first))
            made[CHANNEL_STD] = np.where(deviation > 0, deviation, 1)
        if COLOUR in self.names:
            made[COLOUR] = colour_axes(self._spread(sums[COLOUR], first))
        if WHITENING in self.names:
            made[WHITENING] = whitening(sums[WHITENING] / count, self.transform)
        return {name: made[name] for name in self.names}

    def _second(self, means: Mapping[str, Reals]) -> dict[str, Reals]:
        """What a second pass adds up, which none makes if there is nothing."""
        found: dict[str, Addend] = {}
        if CHANNEL_MEAN in means and not self._whole:
            found = self._about(means[CHANNEL_MEAN])
        if WHITENING in self.names:
            found[WHITENING] = sample_products(means[MEAN])
        return self.added_up(found) if found else {}

    def _about(self, mean: Reals) -> dict[str, Addend]:
        """How the channels differ from a mean."""
        ways = {CHANNEL_STD: squares, COLOUR: products}
        return {name: way(mean) for name, way in ways.items() if name in self.names}

    def _spread(self, squared: Reals, first: Mapping[str, Reals]) -> Reals:
        """Σ(x - mean)(x - mean)ᵀ / n of the channels, from what either pass added up."""
        if self._whole:
            return centred(squared, first[CHANNEL_MEAN], self._pixels)
        return squared / self._pixels

    @property
    def _whole(self) -> bool:
        return all(array.dtype == np.uint8 for array in self.arrays)

    @property
    def _channels(self) -> int:
        return self.arrays[0].shape[1]

    @property
    def _pixels(self) -> int:
        return sum(prod(array.shape) for array in self.arrays) // self._channels


def centred(squared: Reals, total: Reals, count: int) -> Reals:
    """(n·Σx·xᵀ - Σx·Σxᵀ) / n², or (n·Σx² - (Σx)²) / n², of whole numbers, each rounded once."""
    whole, sums = (array.astype(np.int64).astype(object) for array in (squared, total))
    outer = sums * (sums[:, np.newaxis] if whole.ndim == 2 else sums)
    return np.asarray((count * whole - outer) / count**2, np.float64)


def colour_axes(covariance: Reals) -> Reals:
    """The principal components of colours in rows, each as long as its standard deviation, the
    longest first."""
    variances, axes = principal(covariance)
    rows: Reals = np.sqrt(variances)[:, np.newaxis] * axes.T
    return rows


def whitening(covariance: Reals, transform: Transform) -> Reals:
    """The matrix W for which (x - mean)·W is white, x a sample as a row.

    With the covariance of scale·x as U·diag(λ)·Uᵀ, W is scale·U·diag(1/√(λ + ε)) for PCA, whose
    values are the principal components, the strongest first, and that times Uᵀ for ZCA, which of
    all white ones is nearest to the sample (Bell & Sejnowski 1997).
    """
    scale, epsilon = transform.scale, transform.whiten_epsilon
    variances, axes = principal(covariance)
    matrix: Reals = axes * (scale / np.sqrt(scale**2 * variances + epsilon))
    return matrix @ axes.T if transform.whiten == "ZCA" else matrix


def principal(covariance: Reals) -> tuple[Reals, Reals]:
    """Variances, falling, and the axes in columns; of each the largest part is above 0."""
    variances, axes = np.linalg.eigh(covariance)
    variances, axes = variances[::-1].clip(0), axes[:, ::-1]
    largest = np.abs(axes).argmax(axis=0)
    return variances, axes * np.sign(axes[largest, np.arange(len(largest))])
