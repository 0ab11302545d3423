"""Batch normalisation against its formula, in both phases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netspec.ir.layer import ShapeError
from netspec.ir.types import TensorType
from netspec.layers.batch_norm import BatchNorm

GENERATOR = np.random.default_rng(0)


def spread(vector: np.ndarray, x: np.ndarray) -> np.ndarray:
    return vector.reshape(1, -1, *(1,) * (x.ndim - 2))


@pytest.fixture(params=[(5, 2, 3, 4), (7, 3), (2, 3, 5)], ids=str)
def x(request: Any) -> np.ndarray:
    # Far from zero: E[x²] - E[x]² would lose four digits here.
    return GENERATOR.normal(30, 2, request.param).astype(np.float32)


@pytest.fixture
def given(x: np.ndarray) -> dict[str, np.ndarray]:
    c = x.shape[1]
    return {
        "weight0": GENERATOR.normal(size=c), "weight1": GENERATOR.normal(size=c),
        "running_mean": GENERATOR.normal(30, 1, c), "running_var": GENERATOR.uniform(1, 4, c),
    }  # fmt: skip


def test_training(x: np.ndarray, given: Any, forward: Any) -> None:
    y, mean, variance = forward(BatchNorm(), x, training=True, **given)
    axes = (0, *range(2, x.ndim))
    wide = x.astype(np.float64)
    m = x.size // x.shape[1]
    np.testing.assert_allclose(mean, wide.mean(axes), rtol=1e-5)
    np.testing.assert_allclose(variance, wide.var(axes, ddof=1), rtol=1e-4)
    assert wide.var(axes, ddof=1) == pytest.approx(wide.var(axes) * m / (m - 1))
    normal = (wide - spread(wide.mean(axes), x)) / np.sqrt(spread(wide.var(axes), x) + 1e-5)
    expected = normal * spread(given["weight0"], x) + spread(given["weight1"], x)
    np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("fields", [{}, {"use_global_stats": True}])
def test_running_values(fields: Any, x: np.ndarray, given: Any, forward: Any) -> None:
    expected = (x - spread(given["running_mean"], x)) / np.sqrt(
        spread(given["running_var"], x) + 1e-5
    ) * spread(given["weight0"], x) + spread(given["weight1"], x)
    for training in (False, True) if fields else (False,):
        tops = forward(BatchNorm(**fields), x, training=training, **given)
        assert len(tops) == 1, "frozen statistics are not observed"
        np.testing.assert_allclose(tops[0], expected, rtol=1e-3, atol=1e-4)


def test_batch_values_in_test(forward: Any) -> None:
    x = GENERATOR.normal(size=(5, 2, 3, 4)).astype(np.float32)
    (y,) = forward(BatchNorm(use_global_stats=False), x)
    np.testing.assert_allclose(y.mean((0, 2, 3)), 0, atol=1e-6)


def test_caffes_check(forward: Any, caffe_cases: Any) -> None:
    x = GENERATOR.normal(1, 3, caffe_cases["bn_train"]["in_shape"]).astype(np.float32)
    y, *_ = forward(BatchNorm(affine=False), x, training=True)
    np.testing.assert_allclose(y.mean((0, 2, 3)), 0, atol=1e-3)
    np.testing.assert_allclose((y**2).mean((0, 2, 3)), 1, atol=1e-3)


def test_without_affine(x: np.ndarray, forward: Any) -> None:
    layer = BatchNorm(affine=False)
    assert layer.parameters([TensorType(x.shape)]) == 0
    (y,) = forward(layer, x, running_mean=np.full(x.shape[1], 30))
    np.testing.assert_allclose(y, (x - 30) / np.sqrt(1 + 1e-5), rtol=1e-4, atol=1e-5)


def test_starts_as_the_identity(forward: Any) -> None:
    x = GENERATOR.normal(size=(4, 3)).astype(np.float32)
    np.testing.assert_allclose(forward(BatchNorm(eps=1e-12), x)[0], x, rtol=1e-5)


def test_observes_with_momentum(bench: Any) -> None:
    made = bench(BatchNorm(momentum=0.3), [TensorType((4, 3))], True)
    assert {k: share for k, (_, share) in made.observed.items()} == {
        "running_mean": 0.3,
        "running_var": 0.3,
    }


def test_one_cell_has_no_variance(bench: Any) -> None:
    x = [TensorType((1, 3, 1, 1))]
    with pytest.raises(ShapeError, match="one cell per channel in 1x3x1x1"):
        bench(BatchNorm(), x, True)
    bench(BatchNorm(), x, False)
