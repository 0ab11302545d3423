"""The layers that move cells or pick some, against numpy, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netspec.ir.layer import ShapeError
from netspec.ir.types import TensorType
from netspec.layers import LAYERS

G = np.random.default_rng(0)
X = G.normal(size=(3, 6, 4, 5)).astype(np.float32)
LIKE = np.zeros((3, 2, 3, 2), np.float32)
SEQUENCE = X[:, :, 0]
HALF = (np.arange(10) + 0.5) / 2 - 0.5


def linear(x: np.ndarray) -> np.ndarray:
    """Twice as many cells on the last axis, of five, by numpy's interpolation."""
    return np.apply_along_axis(lambda row: np.interp(HALF, np.arange(5), row), -1, x)


@pytest.mark.parametrize(
    ("keyword", "fields", "bottoms", "expected"),
    [
        ("pad_channels", {"num_output": 8}, [X], np.pad(X, [(0, 0), (0, 2), (0, 0), (0, 0)])),
        ("pad_channels", {"num_output": 9}, [X[:, :, 0, 0]],
         np.pad(X[:, :, 0, 0], [(0, 0), (0, 3)])),
        ("pad_channels", {"num_output": 6}, [X], X),
        ("crop", {}, [X, LIKE], X[:, :, :3, :2]),
        ("crop", {"offset": 1}, [X, LIKE], X[:, :, 1:4, 1:3]),
        ("crop", {"offset": [0, 3]}, [X, LIKE], X[:, :, :3, 3:]),
        ("crop", {"axis": 1, "offset": [4, 1, 0]}, [X, LIKE], X[:, 4:, 1:, :2]),
        ("crop", {"axis": -1, "offset": 3}, [X, LIKE], X[..., 3:]),
        ("upsample", {"scale": 3}, [X], X.repeat(3, 2).repeat(3, 3)),
        ("upsample", {"scale": 2}, [SEQUENCE], SEQUENCE.repeat(2, 2)),
        ("upsample", {"scale": 1, "mode": "BILINEAR"}, [X], X),
        ("upsample", {"scale": 2, "mode": "BILINEAR"}, [SEQUENCE], linear(SEQUENCE)),
        ("permute", {"order": [0, 2, 3, 1]}, [X], X.transpose(0, 2, 3, 1)),
        ("permute", {"order": [0, 3]}, [X], X.transpose(0, 3, 1, 2)),
        ("tile", {"tiles": 2}, [X], np.tile(X, (1, 2, 1, 1))),
        ("tile", {"tiles": 3, "axis": -1}, [X], np.tile(X, 3)),
        ("tile", {"tiles": 1}, [X], X),
        ("reduction", {}, [X], X.sum()),
        ("reduction", {"axis": 1, "coeff": -0.5}, [X], -0.5 * X.sum((1, 2, 3))),
        ("reduction", {"operation": "ASUM", "axis": 2}, [X], np.abs(X).sum((2, 3))),
        ("reduction", {"operation": "SUMSQ", "axis": -1}, [X], (X * X).sum(3)),
        ("reduction", {"operation": "MEAN", "axis": 1, "coeff": 3}, [X], 3 * X.mean((1, 2, 3))),
    ],
)  # fmt: skip
def test_formula(keyword: str, fields: Any, bottoms: Any, expected: Any, forward: Any) -> None:
    for training in (False, True):
        (y,) = forward(LAYERS[keyword](**fields), *bottoms, training=training)
        assert y.shape == np.shape(expected)
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [2, 3, 8])
@pytest.mark.parametrize("mode", ["NEAREST", "BILINEAR"])
def test_upsampling_spreads_cells_over_its_window(mode: str, scale: int, forward: Any) -> None:
    x = np.zeros((1, 1, 5, 5), np.float32)
    x[0, 0, 2, 2] = 1
    layer = LAYERS["upsample"].model_validate({"mode": mode, "scale": scale})
    (y,) = forward(layer, x)
    window = layer.window([TensorType(x.shape)])
    assert window is not None
    start = 2 * scale - window.pad[0]
    reached = np.flatnonzero(y[0, 0].any(0))
    np.testing.assert_array_equal(reached, np.arange(start, start + window.kernel[0]))


@pytest.mark.parametrize("top_k", [1, 3])
def test_argmax_of_a_sample(top_k: int, forward: Any) -> None:
    flat = X.reshape(3, -1)
    places = np.argsort(-flat, 1)[:, :top_k]
    (y,) = forward(LAYERS["argmax"](top_k=top_k), X)
    np.testing.assert_array_equal(y, places[:, None, :, None])
    (y,) = forward(LAYERS["argmax"](top_k=top_k, out_max_val=True), flat)
    values = np.take_along_axis(flat, places, 1)
    np.testing.assert_array_equal(y, np.stack([places.astype(np.float32), values], 1))


@pytest.mark.parametrize("axis", [1, -1])
def test_argmax_along_an_axis(axis: int, forward: Any) -> None:
    places = np.take(np.argsort(-X, axis), [0, 1], axis)
    (y,) = forward(LAYERS["argmax"](top_k=2, axis=axis), X)
    np.testing.assert_array_equal(y, places)
    (y,) = forward(LAYERS["argmax"](top_k=2, axis=axis, out_max_val=True), X)
    np.testing.assert_array_equal(y, np.take_along_axis(X, places, axis))


def test_argmax_takes_the_last_of_equal_cells(forward: Any) -> None:
    # Caffe sorts pairs of value and place, the greater first.
    x = np.array([[1, 2, 2, 0, 2]], np.float32)
    (y,) = forward(LAYERS["argmax"](top_k=4), x)
    np.testing.assert_array_equal(y, [[[4, 2, 1, 0]]])


def test_depthwise_is_a_convolution_by_groups(forward: Any) -> None:
    weight, bias = G.normal(size=(12, 1, 3, 3)), G.normal(size=12)
    given = {"weight0": weight, "weight1": bias}
    fields = {"kernel_size": 3, "stride": 2, "pad": 1}
    conv = LAYERS["conv"](num_output=12, group=6, **fields)
    (expected,) = forward(conv, X, **given)
    for own in ({"multiplier": 2}, {"num_output": 12}, {"num_output": 12, "group": 6}):
        layer = LAYERS["depthwise_conv"](**own, **fields)
        (y,) = forward(layer, X, **given)
        np.testing.assert_array_equal(y, expected)
        types = [TensorType(X.shape)]
        assert layer.macs(types) == conv.macs(types) == 3 * 12 * 2 * 3 * 9
        assert layer.weights(types) == conv.weights(types)
    assert LAYERS["depthwise_conv"](**fields).infer(types)[0].shape == (3, 6, 2, 3)


@pytest.mark.parametrize(
    ("height", "case"), [(3, "spp"), (5, "spp5")], ids=["three levels", "five levels"]
)
def test_spp_has_caffes_shapes(height: int, case: str, caffe_cases: Any) -> None:
    (top,) = LAYERS["spp"](pyramid_height=height).infer(
        [TensorType(tuple(caffe_cases[case]["in_shape"]))]
    )
    assert top.shape == tuple(caffe_cases[case]["out_shape"])


def test_spp_of_one_level_is_a_pool_over_all(forward: Any) -> None:
    (y,) = forward(LAYERS["spp"](pyramid_height=1, pool="AVE"), X)
    np.testing.assert_allclose(y, X.mean((2, 3), keepdims=True), rtol=1e-4, atol=1e-6)


def test_spp_pools_level_by_level(forward: Any) -> None:
    x = G.normal(size=(2, 3, 8, 8)).astype(np.float32)
    (y,) = forward(LAYERS["spp"](pyramid_height=3), x)
    levels = [x.reshape(2, 3, b, 8 // b, b, 8 // b).max((3, 5)).reshape(2, -1) for b in (1, 2, 4)]
    np.testing.assert_array_equal(y, np.concatenate(levels, 1))


@pytest.mark.parametrize(
    ("keyword", "fields", "shapes", "field", "message"),
    [
        ("pad_channels", {"num_output": 5}, [(3, 6, 4, 5)], "num_output",
         "num_output 5 is less than the 6 channels of 6x4x5"),
        ("pad_channels", {"num_output": 5}, [(3,)], None, "takes channels"),
        ("crop", {"offset": 2}, [(3, 6, 4, 5), (3, 6, 3, 3)], "offset",
         "3 cells from 2 on pass the end of axis 2, which has 4: 6x4x5 and 6x3x3"),
        ("crop", {}, [(3, 6, 4, 5), (3, 6, 4, 6)], "offset", "6 cells from 0 on pass the end"),
        ("crop", {"offset": [0, 0, 0]}, [(3, 6, 4, 5), (3, 6, 3, 3)], "offset",
         "3 offsets for 2 axes"),
        ("crop", {"axis": 4}, [(3, 6, 4, 5), (3, 6, 3, 3)], "axis", "there is no axis 4"),
        ("crop", {}, [(3, 6, 4, 5), (3, 6)], None, "must have as many axes, not 6x4x5 and 6"),
        ("upsample", {"scale": 2}, [(3, 6)], None, "or channels x length, not 6"),
        ("upsample", {"scale": 2**31 - 1}, [(3, 6, 4, 5)], None, r"more than 2\^40 values"),
        ("permute", {"order": [0, 2, 2, 1]}, [(3, 6, 4, 5)], "order", "lists axis 2 twice"),
        ("permute", {"order": [0, 2, 4]}, [(3, 6, 4, 5)], "order", "there is no axis 4"),
        ("permute", {"order": [0, -1]}, [(3, 6, 4, 5)], "order", "there is no axis -1"),
        ("tile", {"tiles": 2**31 - 1}, [(3, 1024)], None, r"more than 2\^40 values"),
        ("reduction", {"axis": 2}, [(3, 6)], "axis", "there is no axis 2"),
        ("argmax", {"top_k": 7}, [(3, 6)], "top_k", "top_k 7 of 6 cells"),
        ("argmax", {"top_k": 7, "axis": 1}, [(3, 6, 4)], "top_k", "top_k 7 of 6 cells"),
        ("spp", {"pyramid_height": 4}, [(3, 6, 4, 5)], "pyramid_height",
         "4x4 bins are too many for 4x5: some would be empty"),
        ("spp", {"pyramid_height": 3}, [(3, 6, 5, 5)], "pyramid_height", "4x4 bins are too many"),
        ("spp", {"pyramid_height": 1}, [(3, 6)], None, "takes channels x height x width, not 6"),
        ("depthwise_conv", {"kernel_size": 3, "num_output": 8}, [(3, 6, 4, 5)], "num_output",
         "num_output 8 is no multiple of the 6 channels"),
        ("depthwise_conv", {"kernel_size": 3, "num_output": 6, "multiplier": 2}, [(3, 6, 4, 5)],
         "num_output", "num_output excludes multiplier"),
        ("depthwise_conv", {"kernel_size": 3, "group": 3}, [(3, 6, 4, 5)], "group",
         "a group for each of 6 channels, not 3"),
        ("depthwise_conv", {"kernel_size": 9}, [(3, 6, 4, 5)], "kernel_size", "does not fit"),
    ],
)  # fmt: skip
def test_refused(keyword: str, fields: Any, shapes: Any, field: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message) as error:
        LAYERS[keyword](**fields).infer([TensorType(s) for s in shapes])
    assert error.value.field == field
