"""Means, deviations, whitening and colour axes against numpy on the whole of the samples."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from netspec.data import measuring
from netspec.data.measuring import channel_moments, colour_axes, mean_sample, whitening

RNG = np.random.default_rng(2)
MIXING = RNG.standard_normal((27, 27))
IMAGES = (RNG.standard_normal((500, 27)) @ MIXING * 12 + 100).clip(0, 255).astype(np.uint8)
IMAGES = IMAGES.reshape(500, 3, 3, 3)
WHOLE = IMAGES.astype(np.float64)
FEATURES = (RNG.standard_normal((300, 7)) @ RNG.standard_normal((7, 7)) + 5).astype(np.float32)


@pytest.fixture(autouse=True, params=[2**21, 100], ids=["in one piece", "in pieces"])
def _pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_VALUES", request.param)


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


@pytest.mark.parametrize("kind", ["PCA", "ZCA"])
@pytest.mark.parametrize("samples", [IMAGES, FEATURES], ids=["images", "features"])
def test_what_is_whitened_is_white(samples: Any, kind: Any) -> None:
    rows = samples.reshape(len(samples), -1).astype(np.float64)
    mean = mean_sample([samples])
    matrix = whitening([samples], mean, kind=kind, scale=1 / 255, epsilon=1e-12)
    white = (rows - mean.reshape(-1)) @ matrix
    np.testing.assert_allclose(white.T @ white / len(white), np.eye(rows.shape[1]), atol=2e-5)


def test_zca_by_singular_values() -> None:
    """CS231n's notes: U·diag(1/√(S + ε))·Uᵀ with U, S of the covariance's SVD."""
    rows = WHOLE.reshape(500, -1) / 255
    rows -= rows.mean(axis=0)
    u, s, _ = np.linalg.svd(rows.T @ rows / len(rows))
    rotated = rows @ u
    expected = rotated / np.sqrt(s + 1e-3) @ u.T
    mean = mean_sample([IMAGES])
    matrix = whitening([IMAGES], mean, kind="ZCA", scale=1 / 255, epsilon=1e-3)
    found = (WHOLE - mean).reshape(500, -1) @ matrix
    np.testing.assert_allclose(found, expected, atol=1e-9)
    matrix = whitening([IMAGES], mean, kind="PCA", scale=1 / 255, epsilon=1e-3)
    found = (WHOLE - mean).reshape(500, -1) @ matrix
    np.testing.assert_allclose(np.abs(found), np.abs(rotated / np.sqrt(s + 1e-3)), atol=1e-9)


def test_principal_components_have_one_sign() -> None:
    mean = mean_sample([IMAGES])
    matrix = whitening([IMAGES], mean, kind="PCA", scale=1, epsilon=1e-5)
    largest = np.abs(matrix).argmax(axis=0)
    assert (matrix[largest, np.arange(27)] > 0).all()


def test_colours() -> None:
    pixels = np.moveaxis(WHOLE, 1, -1).reshape(-1, 3)
    covariance = np.cov(pixels.T, bias=True)
    axes = colour_axes([IMAGES])
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
    assert peak < 4 * 8 * measuring._VALUES + 50_000
