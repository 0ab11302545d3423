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


def caffes_sums(batches: list[np.ndarray], kept: float) -> tuple[np.ndarray, np.ndarray, float]:
    """The three blobs of Caffe's layer after some batches, in float64."""
    mean, variance, factor = np.zeros(1), np.zeros(1), 0.0
    for x in batches:
        wide = x.astype(np.float64)
        axes = (0, *range(2, x.ndim))
        m = x.size // (x.shape[1] if x.ndim > 1 else 1)
        factor = kept * factor + 1
        mean = kept * mean + wide.mean(axes)
        variance = kept * variance + wide.var(axes) * m / max(1, m - 1)
    return mean, variance, factor


def fold(made: Any, running: dict[str, np.ndarray], observed: list[np.ndarray]) -> Any:
    """The statistics after a batch, as the update graph folds them."""
    return {
        name: running[name] + share * (batch - running[name])
        for (name, (_, share)), batch in zip(made.observed.items(), observed, strict=True)
    }


@pytest.mark.parametrize("kept", [0.999, 0.5, 0.0, 1.0])
@pytest.mark.parametrize("shape", [(5, 2, 3, 4), (7, 3), (6,), (1, 2, 1, 1)], ids=str)
def test_caffes_statistics_over_several_batches(shape: Any, kept: float, bench: Any) -> None:
    layer = BatchNorm(affine=False, moving_average_fraction=kept)
    types = [TensorType(shape)]
    batches = [GENERATOR.normal(3 + i, 2, shape).astype(np.float32) for i in range(5)]
    made, frozen = bench(layer, types, True), bench(layer, types, False)
    running = {s.name: np.full(s.shape, s.initial, np.float32) for s in layer.statistics(types)}
    assert {name: x.shape for name, x in running.items()}["scale_factor"] == (1,)
    assert not any(x.any() for x in running.values())
    for i, x in enumerate(batches):
        y, *observed = made.run([x], running)
        axes = (0, *range(2, x.ndim))
        normal = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
        np.testing.assert_allclose(y, normal, rtol=1e-3, atol=1e-4)
        running = fold(made, running, observed)
        mean, variance, factor = caffes_sums(batches[: i + 1], kept)
        np.testing.assert_allclose(running["scale_factor"], [factor], rtol=1e-6)
        np.testing.assert_allclose(running["running_mean"], mean, rtol=1e-5)
        np.testing.assert_allclose(running["running_var"], variance, rtol=1e-4, atol=1e-5)
        (y,) = frozen.run([x], running)
        behind = (1,) * (x.ndim - 2)
        shift, spread = ((v / factor).reshape(-1, *behind) for v in (mean, variance))
        np.testing.assert_allclose(y, (x - shift) / np.sqrt(spread + 1e-5), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("training", [False, True])
def test_caffes_global_statistics(training: bool, forward: Any) -> None:
    x = GENERATOR.normal(size=(4, 3, 2, 2)).astype(np.float32)
    layer = BatchNorm(affine=False, moving_average_fraction=0.9, use_global_stats=True)
    mean, variance = GENERATOR.normal(size=3), GENERATOR.uniform(2, 4, 3)
    given = {"running_mean": mean, "running_var": variance, "scale_factor": np.array([2.5])}
    (y,) = forward(layer, x, training=training, **given)
    expected = (x - spread(mean / 2.5, x)) / np.sqrt(spread(variance / 2.5, x) + 1e-5)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_caffes_statistics_without_a_batch_are_zero(training: bool, forward: Any) -> None:
    x = GENERATOR.normal(size=(4, 3)).astype(np.float32)
    layer = BatchNorm(moving_average_fraction=0.9, use_global_stats=True)
    (y,) = forward(layer, x, training=training, running_mean=np.ones(3), running_var=np.ones(3))
    np.testing.assert_allclose(y, x / np.sqrt(1e-5), rtol=1e-4)


def test_caffes_statistics_with_weights(forward: Any, given: Any, x: np.ndarray) -> None:
    layer = BatchNorm(moving_average_fraction=0.9)
    sums = {name: 4 * v for name, v in given.items() if name.startswith("running")}
    (y,) = forward(layer, x, **{**given, **sums, "scale_factor": np.array([4.0])})
    (expected,) = forward(BatchNorm(), x, **given)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


def test_a_share_of_the_batch_or_of_the_past() -> None:
    layer = BatchNorm(momentum=0.1, moving_average_fraction=0.9)
    with pytest.raises(ShapeError, match="give one"):
        layer.infer([TensorType((4, 3))])
