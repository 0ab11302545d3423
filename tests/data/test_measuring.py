"""Means, deviations, whitening and colour axes against numpy on the whole of the samples."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Sequence
from math import sqrt
from statistics import pvariance
from typing import Any

import numpy as np
import pytest

from netspec.data import totals
from netspec.data.lazy import Lazy
from netspec.data.measuring import Survey
from netspec.diagnostics import DataError
from netspec.ir.measured import CHANNEL_MEAN, CHANNEL_STD, COLOUR, WHITENING
from netspec.ir.transform import MEAN, Transform

RNG = np.random.default_rng(2)
MIXING = RNG.standard_normal((27, 27))
IMAGES = (RNG.standard_normal((500, 27)) @ MIXING * 12 + 100).clip(0, 255).astype(np.uint8)
IMAGES = IMAGES.reshape(500, 3, 3, 3)
WHOLE = IMAGES.astype(np.float64)
FEATURES = (RNG.standard_normal((300, 7)) @ RNG.standard_normal((7, 7)) + 5).astype(np.float32)


def surveyed(arrays: Sequence[Any], *names: str, **fields: Any) -> tuple[Any, ...]:
    survey = Survey(arrays, frozenset(names), Transform(**fields))
    found = survey.measured(survey.added_up(survey.first))
    return tuple(found[name] for name in names)


def mean_sample(arrays: Sequence[Any]) -> Any:
    (mean,) = surveyed(arrays, MEAN)
    return mean


def channel_moments(arrays: Sequence[Any]) -> tuple[Any, ...]:
    return surveyed(arrays, CHANNEL_MEAN, CHANNEL_STD)


def whitening(arrays: Sequence[Any], kind: str, scale: float, epsilon: float) -> tuple[Any, ...]:
    """The mean sample, and the matrix."""
    return surveyed(arrays, MEAN, WHITENING, whiten=kind, scale=scale, whiten_epsilon=epsilon)


@pytest.fixture(autouse=True, params=[2**21, 100], ids=["in one piece", "in pieces"])
def _pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totals, "_VALUES", request.param)


def test_means_and_deviations() -> None:
    np.testing.assert_allclose(mean_sample([IMAGES]), WHOLE.mean(axis=0), rtol=1e-13)
    mean, deviation = channel_moments([IMAGES])
    np.testing.assert_allclose(mean, WHOLE.mean(axis=(0, 2, 3)), rtol=1e-13)
    np.testing.assert_allclose(deviation, WHOLE.std(axis=(0, 2, 3)), rtol=1e-13)
    mean, deviation = channel_moments([FEATURES])
    np.testing.assert_allclose(mean, FEATURES.astype(np.float64).mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(deviation, FEATURES.astype(np.float64).std(axis=0), rtol=1e-12)


def test_several_inputs_are_measured_together() -> None:
    parts = [IMAGES[:200], IMAGES[200:]]
    np.testing.assert_allclose(mean_sample(parts), mean_sample([IMAGES]), rtol=1e-13)
    for part, whole in zip(channel_moments(parts), channel_moments([IMAGES]), strict=True):
        np.testing.assert_allclose(part, whole, rtol=1e-13)


def test_a_far_mean_costs_no_digits() -> None:
    """Σx² - n·mean² would be lost: 1e8 beside a deviation of 1."""
    far = (RNG.standard_normal((1000, 2)) + 1e8).astype(np.float64)
    np.testing.assert_allclose(channel_moments([far])[1], far.std(axis=0), rtol=1e-6)


def test_bytes_are_counted_exactly() -> None:
    """Python's statistics reckon in fractions. One pixel of 254 among those of 255; all of 7."""
    bright = np.full((400, 3, 5, 5), 255, np.uint8)
    bright[7, 0, 2, 2], bright[:, 1], bright[:, 2] = 254, 7, IMAGES.reshape(-1, 1, 1)[:400]
    mean, deviation = channel_moments([bright])
    values = [bright[:, channel].reshape(-1).tolist() for channel in range(3)]
    exact = [sqrt(pvariance(each)) for each in values]
    assert mean.tolist() == [sum(each) / len(each) for each in values]
    assert deviation.tolist() == [exact[0], 1, exact[2]]


@pytest.mark.parametrize("kind", ["PCA", "ZCA"])
@pytest.mark.parametrize("samples", [IMAGES, FEATURES], ids=["images", "features"])
def test_what_is_whitened_is_white(samples: Any, kind: Any) -> None:
    rows = samples.reshape(len(samples), -1).astype(np.float64)
    mean, matrix = whitening([samples], kind, 1 / 255, 1e-12)
    white = (rows - mean.reshape(-1)) @ matrix
    np.testing.assert_allclose(white.T @ white / len(white), np.eye(rows.shape[1]), atol=2e-5)


def test_zca_by_singular_values() -> None:
    """CS231n's notes: U·diag(1/√(S + ε))·Uᵀ with U, S of the covariance's SVD."""
    rows = WHOLE.reshape(500, -1) / 255
    rows -= rows.mean(axis=0)
    u, s, _ = np.linalg.svd(rows.T @ rows / len(rows))
    rotated = rows @ u
    expected = rotated / np.sqrt(s + 1e-3) @ u.T
    mean, matrix = whitening([IMAGES], "ZCA", 1 / 255, 1e-3)
    found = (WHOLE - mean).reshape(500, -1) @ matrix
    np.testing.assert_allclose(found, expected, atol=1e-9)
    _, matrix = whitening([IMAGES], "PCA", 1 / 255, 1e-3)
    found = (WHOLE - mean).reshape(500, -1) @ matrix
    np.testing.assert_allclose(np.abs(found), np.abs(rotated / np.sqrt(s + 1e-3)), atol=1e-9)


def test_principal_components_have_one_sign() -> None:
    _, matrix = whitening([IMAGES], "PCA", 1.0, 1e-5)
    largest = np.abs(matrix).argmax(axis=0)
    assert (matrix[largest, np.arange(27)] > 0).all()


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_colours(kind: str) -> None:
    pixels = np.moveaxis(WHOLE, 1, -1).reshape(-1, 3)
    covariance = np.cov(pixels.T, bias=True)
    (axes,) = surveyed([IMAGES.astype(kind)], COLOUR)
    np.testing.assert_allclose(axes.T @ axes, covariance, rtol=1e-10)
    np.testing.assert_allclose(
        np.linalg.norm(axes, axis=1), np.sqrt(np.linalg.eigvalsh(covariance))[::-1], rtol=1e-10
    )
    direction = axes / np.linalg.norm(axes, axis=1, keepdims=True)
    np.testing.assert_allclose(direction @ direction.T, np.eye(3), atol=1e-12)


def test_memory_is_bounded() -> None:
    """200,000 values in pieces of 100 or 2^21: never much more than a piece, or than all of it."""
    many = np.zeros((20_000, 1, 10, 10), np.uint8)
    tracemalloc.start()
    channel_moments([many])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 8 * totals._VALUES + 50_000


def streamed(images: Any, bad: int | None = None) -> Lazy:
    """Images to be decoded, one of which cannot be."""

    def decode(row: int) -> Any:
        if row == bad:
            raise DataError("a bad one")
        return images[row]

    return Lazy(images.shape, decode, decode, str)


LARGE = IMAGES[:300].reshape(60, 1, 3, 45).repeat(64, axis=2).repeat(4, axis=3)
"""Large enough for several threads."""


@pytest.mark.parametrize("images", [IMAGES, LARGE], ids=["small", "large"])
def test_streamed_samples_are_measured_alike(images: Any) -> None:
    before = threading.active_count()
    for part, whole in zip(
        channel_moments([streamed(images)]), channel_moments([images]), strict=True
    ):
        np.testing.assert_array_equal(part, whole)
    with pytest.raises(DataError, match="a bad one"):
        mean_sample([streamed(images, bad=40)])
    assert threading.active_count() == before
