"""Means, deviations and principal components of samples, in float64, some samples at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from netspec.data.lazy import Lazy

Array: TypeAlias = NDArray[Any] | Lazy
Reals: TypeAlias = NDArray[np.float64]

_VALUES = 2**21
"""Of the samples that are looked at in one go: 16 MB in float64."""


def mean_sample(arrays: Sequence[Array]) -> Reals:
    """The mean of all samples, in the shape of one."""
    total = np.zeros(arrays[0].shape[1:])
    for some in _pieces(arrays):
        total += some.sum(axis=0)
    mean: Reals = total / sum(map(len, arrays))
    return mean


def channel_moments(arrays: Sequence[Array]) -> tuple[Reals, Reals]:
    """Mean and standard deviation of every channel over all samples and positions.

    The deviation is that of the population: √(Σ (x - mean)² / n). Arrays may differ in height and
    width.
    """
    channels = arrays[0].shape[1]
    count = sum(prod(array.shape) for array in arrays) // channels
    total, squares = np.zeros(channels), np.zeros(channels)
    for some in _pieces(arrays):
        total += _by_channel(some).sum(axis=1)
    mean = total / count
    for some in _pieces(arrays):
        squares += ((_by_channel(some) - mean[:, np.newaxis]) ** 2).sum(axis=1)
    return mean, np.sqrt(squares / count)


def colour_axes(arrays: Sequence[Array]) -> Reals:
    """The principal components of the pixels over channels, in rows, each as long as its standard
    deviation, the longest first."""
    mean, _ = channel_moments(arrays)
    covariance, count = np.zeros((len(mean),) * 2), 0
    for some in _pieces(arrays):
        pixels = _by_channel(some) - mean[:, np.newaxis]
        covariance += pixels @ pixels.T
        count += pixels.shape[1]
    variances, axes = principal(covariance / count)
    rows: Reals = np.sqrt(variances)[:, np.newaxis] * axes.T
    return rows


def whitening(
    arrays: Sequence[Array],
    mean: Reals,
    *,
    kind: Literal["PCA", "ZCA"],
    scale: float,
    epsilon: float,
) -> Reals:
    """The matrix W for which (x - mean)·W is white, x a sample as a row.

    With the covariance of scale·x as U·diag(λ)·Uᵀ, W is scale·U·diag(1/√(λ + ε)) for PCA, whose
    values are the principal components, the strongest first, and that times Uᵀ for ZCA, which of
    all white ones is nearest to the sample (Bell & Sejnowski 1997).
    """
    size = prod(mean.shape)
    covariance, count = np.zeros((size, size)), 0
    for some in _pieces(arrays):
        rows = (some - mean).reshape(len(some), size)
        covariance += rows.T @ rows
        count += len(rows)
    variances, axes = principal(covariance / count)
    matrix: Reals = axes * (scale / np.sqrt(scale**2 * variances + epsilon))
    return matrix @ axes.T if kind == "ZCA" else matrix


def principal(covariance: Reals) -> tuple[Reals, Reals]:
    """Variances, falling, and the axes in columns; of each the largest part is above 0."""
    variances, axes = np.linalg.eigh(covariance)
    variances, axes = variances[::-1].clip(0), axes[:, ::-1]
    largest = np.abs(axes).argmax(axis=0)
    return variances, axes * np.sign(axes[largest, np.arange(len(largest))])


def _pieces(arrays: Sequence[Array]) -> Iterator[Reals]:
    """All samples of all arrays, some at a time."""
    for array in arrays:
        step = max(1, _VALUES // prod(array.shape[1:]))
        for rows in pieces(len(array), step):
            yield np.asarray(array[rows], np.float64)


def pieces(count: int, step: int) -> Iterator[NDArray[np.int64]]:
    """The numbers of samples, `step` at a time."""
    for start in range(0, count, step):
        yield np.arange(start, min(start + step, count))


def _by_channel(some: Reals) -> Reals:
    """A row for each channel."""
    return np.moveaxis(some, 1, 0).reshape(some.shape[1], -1)
