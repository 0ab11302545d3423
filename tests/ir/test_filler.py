"""Orthogonal weights have the properties of PyTorch's."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
import pytest

from netspec.ir.filler import Filler
from netspec.ir.types import Shape

SHAPES: list[Shape] = [(5, 5), (3, 8), (8, 3), (16, 3, 3, 3), (64, 3, 3, 3), (1, 7), (7, 1)]


def drawn(shape: Shape, seed: int = 0, gain: float = 1.0) -> Any:
    return Filler(type="orthogonal", gain=gain).sample(shape, np.random.default_rng(seed))


@pytest.mark.parametrize("gain", [1.0, sqrt(2)])
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_or_columns_are_orthonormal_times_gain(shape: Shape, gain: float) -> None:
    """To 1e-6, which is float32's; so are those of `torch.nn.init.orthogonal_`."""
    weight = drawn(shape, gain=gain)
    assert weight.dtype == np.float32
    assert weight.shape == shape
    for name, matrix in (("ours", weight), ("PyTorch's", pytorchs(shape, gain))):
        flat = matrix.reshape(shape[0], -1).astype(float)
        gram = flat @ flat.T if shape[0] <= flat.shape[1] else flat.T @ flat
        np.testing.assert_allclose(gram, gain**2 * np.eye(len(gram)), atol=2e-6, err_msg=name)


def pytorchs(shape: Shape, gain: float) -> Any:
    torch = pytest.importorskip("torch")
    return torch.nn.init.orthogonal_(torch.empty(shape), gain).numpy()


def test_seeds_differ_and_repeat() -> None:
    assert np.array_equal(drawn((4, 9), 3), drawn((4, 9), 3))
    assert not np.allclose(drawn((4, 9), 3), drawn((4, 9), 4))


def test_no_direction_is_likelier_than_another() -> None:
    """Of 2,000 rotations of the plane, signs and angles are spread evenly (within 4 deviations)."""
    first = np.array([drawn((2, 2), seed)[:, 0] for seed in range(2000)], float)
    angles = np.arctan2(first[:, 1], first[:, 0])
    counts, _ = np.histogram(angles, bins=8, range=(-np.pi, np.pi))
    assert np.abs(counts - 250).max() < 4 * sqrt(250)
    turns = np.array([np.linalg.det(drawn((2, 2), seed).astype(float)) for seed in range(400)])
    assert abs((turns > 0).sum() - 200) < 4 * 10
