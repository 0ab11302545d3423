"""The layers that are a line of numpy each, against that line."""

from __future__ import annotations

from math import erf
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from netspec.ir.layer import ShapeError
from netspec.ir.types import TensorType
from netspec.layers import LAYERS

G = np.random.default_rng(0)
X = G.normal(size=(3, 6, 4, 5)).astype(np.float32)
A, B, C = (G.normal(size=X.shape).astype(np.float32) for _ in range(3))
SLOPES, SCALES = G.normal(size=6), G.normal(size=(6, 4))
GATE = G.normal(size=(3, 6)).astype(np.float32)
MATRIX, BIAS = G.normal(size=(7, 120)), G.normal(size=7)
FLAT = X.reshape(3, -1)
SLOPED = np.where(X > 0, X, SLOPES[:, None, None] * X)
ROWS = G.normal(size=(7, 5))


def centred(x: np.ndarray, *axes: int) -> np.ndarray:
    return x - x.mean(axes, keepdims=True)


@pytest.mark.parametrize(
    ("keyword", "fields", "bottoms", "weights", "expected"),
    [
        ("relu", {}, [X], [], X.clip(0)),
        ("relu", {"negative_slope": 0.1}, [X], [], np.where(X > 0, X, 0.1 * X)),
        ("sigmoid", {}, [X], [], 1 / (1 + np.exp(-X))),
        ("tanh", {}, [X], [], np.tanh(X)),
        ("elu", {"alpha": 0.7}, [X], [], np.where(X > 0, X, 0.7 * np.expm1(X))),
        ("relu6", {}, [4 * X], [], (4 * X).clip(0, 6)),
        ("hard_sigmoid", {}, [4 * X], [], ((4 * X + 3) / 6).clip(0, 1)),
        ("hard_swish", {}, [4 * X], [], 4 * X * ((4 * X + 3) / 6).clip(0, 1)),
        ("softplus", {}, [X], [], np.log1p(np.exp(X))),
        ("softplus", {}, [1e4 * X], [], 1e4 * X.clip(0)),
        ("swish", {"beta": 0.5}, [X], [], X / (1 + np.exp(-0.5 * X))),
        ("gelu", {}, [X], [], X / 2 * (1 + np.vectorize(erf)(X / np.sqrt(2)))),
        ("gelu", {"approximate": "TANH"}, [X], [],
         X / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (X + 0.044715 * X**3)))),
        ("abs", {}, [X], [], np.abs(X)),
        ("clip", {"min": -0.5, "max": 0.7}, [X], [], X.clip(-0.5, 0.7)),
        ("power", {"power": 3, "scale": 2, "shift": -1}, [X], [], (2 * X - 1) ** 3),
        ("power", {}, [X], [], X),
        ("power", {"power": 0}, [X], [], np.ones_like(X)),
        ("power", {"power": 0, "scale": 0}, [X], [], np.ones_like(X)),
        ("power", {"power": -2, "scale": 0, "shift": -4}, [X], [], np.full_like(X, 1 / 16)),
        ("exp", {"base": 2, "scale": 3, "shift": 1}, [X], [], 2 ** (1 + 3 * X)),
        ("exp", {"shift": -90}, [X + 90], [], np.exp(X)),
        ("log", {"base": 2, "scale": 3, "shift": 1}, [np.abs(X)], [], np.log2(1 + 3 * np.abs(X))),
        ("log", {"scale": 0, "shift": 5}, [X], [], np.full_like(X, np.log(5))),
        ("prelu", {}, [X], [], np.where(X > 0, X, 0.25 * X)),
        ("prelu", {}, [X], [SLOPES], SLOPED),
        ("prelu", {}, [X[:, :, 0, 0]], [SLOPES], SLOPED[:, :, 0, 0]),
        ("prelu", {"channel_shared": True}, [X], [np.array(-0.4)], np.where(X > 0, X, -0.4 * X)),
        ("softmax", {"axis": 2}, [X], [], np.exp(X) / np.exp(X).sum(2, keepdims=True)),
        ("dropout", {}, [X], [], X),
        ("fc", {"num_output": 7}, [X], [MATRIX, BIAS], FLAT @ MATRIX.T + BIAS),
        ("fc", {"num_output": 7, "bias_term": False}, [X], [MATRIX], FLAT @ MATRIX.T),
        ("fc", {"num_output": 7, "transpose": True}, [X], [MATRIX.T, BIAS], FLAT @ MATRIX.T + BIAS),
        ("fc", {"num_output": 7, "axis": -1}, [X], [ROWS, BIAS], X @ ROWS.T + BIAS),
        ("scale", {}, [X], [SLOPES], X * SLOPES[:, None, None]),
        ("scale", {"num_axes": 2, "bias_term": True}, [X], [SCALES, -SCALES],
         X * SCALES[:, :, None] - SCALES[:, :, None]),
        ("scale", {"num_axes": 0, "bias_term": True}, [X], [np.array(2), np.array(3)], 2 * X + 3),
        ("scale", {"num_axes": -1, "axis": 2}, [X], [C[0, 0]], X * C[0, 0]),
        ("scale", {"axis": 0}, [X, GATE], [], X * GATE[:, :, None, None]),
        ("scale", {"axis": 0}, [X, A], [], X * A),
        ("bias", {}, [X], [SLOPES], X + SLOPES[:, None, None]),
        ("bias", {"num_axes": 2}, [X], [SCALES], X + SCALES[:, :, None]),
        ("bias", {"axis": 0}, [X, GATE], [], X + GATE[:, :, None, None]),
        ("bias", {"axis": 0}, [X, A], [], X + A),
        ("mvn", {}, [X], [], centred(X, 2, 3) / X.std((2, 3), keepdims=True)),
        ("mvn", {"eps": 0.5}, [X], [], centred(X, 2, 3) / (X.std((2, 3), keepdims=True) + 0.5)),
        ("mvn", {"normalize_variance": False, "across_channels": True}, [X], [],
         centred(X, 1, 2, 3)),
        ("group_norm", {"groups": 1}, [X], [], centred(X, 1, 2, 3)
         / np.sqrt(X.var((1, 2, 3), keepdims=True) + 1e-5)),
        ("group_norm", {"groups": 6, "eps": 0.5}, [X], [SLOPES, -SLOPES],
         (centred(X, 2, 3) / np.sqrt(X.var((2, 3), keepdims=True) + 0.5) - 1)
         * SLOPES[:, None, None]),
        ("l2_normalize", {}, [X], [], X / np.linalg.norm(X, axis=1, keepdims=True)),
        ("l2_normalize", {"across_spatial": True, "eps": 3}, [X], [],
         X / np.sqrt((X**2).sum((1, 2, 3), keepdims=True) + 3)),
        ("l2_normalize", {"scale": True}, [X[:, :, 0, 0]], [SLOPES],
         X[:, :, 0, 0] / np.linalg.norm(X[:, :, 0, 0], axis=1, keepdims=True) * SLOPES),
        ("maxout", {}, [X], [], np.maximum(X[:, ::2], X[:, 1::2])),
        ("maxout", {"pieces": 6}, [X], [], X.max(1, keepdims=True)),
        ("shuffle_channel", {"group": 2}, [X], [], X[:, [0, 3, 1, 4, 2, 5]]),
        ("shuffle_channel", {"group": 3}, [X], [], X[:, [0, 2, 4, 1, 3, 5]]),
        ("eltwise", {}, [A, B, C], [], A + B + C),
        ("eltwise", {"coeff": [1, -0.5, 2]}, [A, B, C], [], A - 0.5 * B + 2 * C),
        ("eltwise", {"operation": "PROD"}, [A, B, C], [], A * B * C),
        ("eltwise", {"operation": "MAX"}, [A, B, C], [], np.maximum(np.maximum(A, B), C)),
        ("concat", {}, [A, B[:, :2]], [], np.concatenate([A, B[:, :2]], 1)),
        ("concat", {"axis": -1}, [A, B], [], np.concatenate([A, B], 3)),
        ("concat", {"axis": 0}, [A, B], [], np.concatenate([A, B], 0)),
    ],
)  # fmt: skip
def test_formula(
    keyword: str, fields: Any, bottoms: Any, weights: Any, expected: Any, forward: Any
) -> None:
    given = {f"weight{i}": w for i, w in enumerate(weights)}
    for training in (False, True):
        if keyword == "dropout" and training:
            continue
        (y,) = forward(LAYERS[keyword](**fields), *bottoms, training=training, **given)
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "count", "cuts"),
    [({"slice_point": [1, 4]}, 3, [1, 4]), ({}, 3, [2, 4]), ({}, 1, []), ({"axis": 2}, 2, [2])],
)
def test_slice(fields: Any, count: int, cuts: Any, forward: Any) -> None:
    parts = forward(LAYERS["slice"](**fields).with_tops(count), X)
    expected = np.split(X, cuts, fields.get("axis", 1))
    assert len(parts) == count
    for part, wanted in zip(parts, expected, strict=True):
        np.testing.assert_array_equal(part, wanted)


def test_dropout_drops_and_keeps_the_mean(forward: Any) -> None:
    x = np.ones((4, 1000), np.float32)
    draws = np.linspace(0, 1, 4000, endpoint=False).reshape(4, 1000)
    for ratio in (0.0, 0.25, 0.75):
        (y,) = forward(LAYERS["dropout"](dropout_ratio=ratio), x, training=True, random0=draws)
        np.testing.assert_allclose(y, np.where(draws >= ratio, 1 / (1 - ratio), 0), rtol=1e-6)
        assert y.mean() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize(("draw", "kept"), [(0.0, 1), (0.69, 1), (0.7, 0), (0.99, 0)])
def test_drop_path_keeps_or_drops_the_whole_batch(draw: float, kept: int, forward: Any) -> None:
    layer = LAYERS["drop_path"](survival=0.7)
    (y,) = forward(layer, X, training=True, random0=np.full((1, 1, 1, 1), draw))
    np.testing.assert_array_equal(y, kept * X)
    (y,) = forward(layer, X)
    np.testing.assert_allclose(y, 0.7 * X, rtol=1e-6)


def test_drop_path_that_always_survives(forward: Any) -> None:
    for training in (False, True):
        (y,) = forward(LAYERS["drop_path"](survival=1), X, training=training)
        np.testing.assert_array_equal(y, X)


@pytest.mark.parametrize(
    ("keyword", "fields", "shapes", "message"),
    [
        ("fc", {"num_output": 7, "axis": 4}, [(3, 6, 4, 5)],
         "there is no axis 4: the bottom is 3x6x4x5, batch included"),
        ("fc", {"num_output": 2**31 - 1}, [(1024, 6)], r"1024x2147483647 has more than 2\^40"),
        ("concat", {}, [(3, 6, 4, 5), (3, 2, 5, 5)],
         "bottoms must agree on all axes but 1: 6x4x5 and 2x5x5 do not"),
        ("concat", {}, [(3, 6, 4, 5), (3, 6)], "6x4x5 and 6 do not"),
        ("eltwise", {}, [(3, 64, 28, 28), (3, 128, 14, 14)],
         "bottoms must have one shape, not 64x28x28 and 128x14x14"),
        ("eltwise", {}, [(3, 6), (2, 6)], "bottoms must have one shape, not 3x6 and 2x6"),
        ("eltwise", {"coeff": [1]}, [(3, 6), (3, 6)], "1 coefficients for 2 bottoms"),
        ("eltwise", {"coeff": [1, 2], "operation": "MAX"}, [(3, 6), (3, 6)],
         "coeff goes with SUM, not MAX"),
        ("slice", {"slice_point": [4, 2]}, [(3, 6)], "stay below the 6 cells of axis 1: 4, 2"),
        ("slice", {"slice_point": [6]}, [(3, 6)], "stay below the 6 cells of axis 1: 6"),
        ("scale", {"num_axes": 2}, [(3, 6)], "2 axes from axis 1 on, but 3x6 has 1"),
        ("scale", {}, [(3, 6, 4, 5), (3, 6)],
         "3x6 does not match the first, 3x6x4x5, from axis 1 on"),
        ("scale", {"axis": 0}, [(3, 6, 4, 5), (3, 4)],
         "3x4 does not match the first, 3x6x4x5, from axis 0 on"),
        ("scale", {"axis": 0, "bias_term": True}, [(3, 6), (3, 6)],
         "a learned bias needs a learned scale"),
        ("bias", {"num_axes": 2}, [(3, 6)], "2 axes from axis 1 on, but 3x6 has 1"),
        ("bias", {}, [(3, 6, 4, 5), (3, 6)],
         "3x6 does not match the first, 3x6x4x5, from axis 1 on"),
        ("bias", {"axis": 0}, [(3, 6, 4, 5), (3, 4)],
         "3x4 does not match the first, 3x6x4x5, from axis 0 on"),
        ("clip", {"min": 2, "max": 1.5}, [(3, 6)], "min 2 is above max 1.5"),
        ("log", {"base": 1}, [(3, 6)], "there is no logarithm to base 1"),
        ("log", {"scale": 0, "shift": -2}, [(3, 6)], "every cell is the logarithm of -2"),
        ("power", {"scale": 0, "power": -1}, [(3, 6)], r"every cell is 0\^-1, which is no number"),
        ("power", {"scale": 0, "shift": -2, "power": 0.5}, [(3, 6)], r"-2\^0.5, which is no"),
        ("power", {"scale": 0, "shift": 1e9, "power": 99}, [(3, 6)], r"1e\+09\^99, which is no"),
        ("mvn", {}, [(3, 6)], "one cell per channel in 6: a variance needs two"),
        ("mvn", {}, [(3, 6, 1, 1)], "one cell per channel in 6x1x1"),
        ("mvn", {"across_channels": True}, [(3, 1, 1, 1)], "one cell per image in 1x1x1"),
        ("group_norm", {}, [(3, 6, 4, 5)], "32 groups do not divide 6 channels"),
        ("group_norm", {"groups": 6}, [(3, 6)], "one cell per group in 6: a variance needs two"),
        ("group_norm", {}, [(3,)], "takes channels, not one number per sample"),
        ("l2_normalize", {}, [(3,)], "takes channels, not one number per sample"),
        ("l2_normalize", {"channel_shared": True}, [(3, 6)], "channel_shared goes with scale"),
        ("maxout", {"pieces": 4}, [(3, 6, 4, 5)], "4 pieces do not divide 6 channels"),
        ("maxout", {}, [(3,)], "takes channels, not one number per sample"),
        ("shuffle_channel", {"group": 4}, [(3, 6)], "4 groups do not divide 6 channels"),
        ("shuffle_channel", {}, [(3,)], "takes channels, not one number per sample"),
        ("prelu", {}, [(3,)], "takes channels, not one number per sample"),
        ("conv", {"num_output": 4, "kernel_size": 9}, [(3, 6, 4, 5)],
         "a window of 9x9 does not fit into 4x5"),
        ("conv", {"num_output": 4, "kernel_size": 3, "group": 4}, [(3, 6, 4, 5)],
         "4 groups do not divide 6 channels of the bottom"),
    ],
)  # fmt: skip
def test_refused(keyword: str, fields: Any, shapes: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        LAYERS[keyword](**fields).infer([TensorType(s) for s in shapes])


def test_slice_counts_its_tops() -> None:
    with pytest.raises(ShapeError, match="2 slice points, but 2 tops"):
        LAYERS["slice"](slice_point=[1, 2]).with_tops(2).infer([TensorType((3, 6))])
    with pytest.raises(ShapeError, match="4 tops do not divide 6 cells of axis 1"):
        LAYERS["slice"]().with_tops(4).infer([TensorType((3, 6))])


def test_input_makes_a_blob() -> None:
    layer = LAYERS["input"](shape=[3, 8, 8])
    assert layer.blob(16) == TensorType((16, 3, 8, 8))
    assert layer.infer([]) == (TensorType((1, 3, 8, 8)),)
    assert LAYERS["input"](shape=()).blob(4, "int64") == TensorType((4,), "int64")
    with pytest.raises(ShapeError, match="more than 2\\^40"):
        LAYERS["input"](shape=[2**20, 2**20]).blob(2)
    with pytest.raises(ValidationError):
        LAYERS["input"](shape=[0, 3])


def test_lenet_counts() -> None:
    # LeNet's classifier: 800·500 + 500 and 500·10 + 10 (Caffe's examples/mnist).
    first, second = LAYERS["fc"](num_output=500), LAYERS["fc"](num_output=10)
    x, h = TensorType((64, 50, 4, 4)), TensorType((64, 500))
    assert first.parameters([x]) + second.parameters([h]) == 400_500 + 5_010
    assert first.macs([x]) == 64 * 400_000
