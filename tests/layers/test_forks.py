"""Layers of Caffe's forks, by their formulas."""

from __future__ import annotations

import re
from itertools import product
from typing import Any

import numpy as np
import pytest

from netspec.ir.layer import Layer, ShapeError
from netspec.ir.types import Shape, TensorType
from netspec.ir.window import Window
from netspec.layers.axpy import Axpy
from netspec.layers.bn import BN
from netspec.layers.interp import Interp
from netspec.layers.l1_loss import L1Loss
from netspec.layers.reorg import Reorg
from netspec.layers.upsample import Upsample

G = np.random.default_rng(0)
X = G.normal(size=(3, 8, 6, 4)).astype(np.float32)
GIVEN = {"weight0": G.normal(size=8), "weight1": G.normal(size=8)}
RUNNING = {"running_mean": G.normal(size=8), "running_var": G.uniform(1, 4, 8)}
SLOPE, BIAS = (GIVEN[name].reshape(8, 1, 1) for name in GIVEN)
MEAN, VAR = X.astype(np.float64).mean((0, 2, 3)), X.astype(np.float64).var((0, 2, 3))


def normalised(mean: np.ndarray, variance: np.ndarray, eps: float) -> np.ndarray:
    y: np.ndarray = (X - mean[:, None, None]) / np.sqrt(variance[:, None, None] + eps)
    return y * SLOPE + BIAS


@pytest.mark.parametrize("ones", [(), (1, 1)], ids=str)
def test_axpy(ones: Shape, forward: Any) -> None:
    gate, other = G.normal(size=(3, 8)).astype(np.float32), G.normal(size=X.shape)
    for training in (False, True):
        (y,) = forward(
            Axpy(), gate.reshape(3, 8, *ones), X, other.astype(np.float32), training=training
        )
        np.testing.assert_allclose(y, gate[:, :, None, None] * X + other, rtol=1e-5, atol=1e-6)


def test_l1_loss(forward: Any) -> None:
    target = G.normal(size=X.shape).astype(np.float32)
    (y,) = forward(L1Loss(), X, target)
    assert y == pytest.approx(np.abs(X - target).sum() / 3, rel=1e-5)


def darknet(x: np.ndarray, stride: int, *, forward: bool) -> np.ndarray:
    """Darknet's loop over C x H x W: where it reads, or with `forward` where it writes."""
    c, h, w = x.shape
    flat, y = x.ravel(), np.empty(x.size, x.dtype)
    for k, j, i in product(range(c), range(h), range(w)):
        part, channel = divmod(k, c // stride**2)
        row, column = j * stride + part // stride, i * stride + part % stride
        there = (channel * h * stride + row) * w * stride + column
        here = (k * h + j) * w + i
        if forward:
            y[there] = flat[here]
        else:
            y[here] = flat[there]
    return y


@pytest.mark.parametrize(
    ("fields", "shape"),
    [({"stride": 2}, (32, 3, 2)), ({"stride": 2, "reverse": True}, (2, 12, 8)),
     ({"stride": 1}, (8, 6, 4))],
)  # fmt: skip
def test_reorg_is_darknets(fields: Any, shape: Shape, forward: Any) -> None:
    (y,) = forward(Reorg(**fields), X)
    step, back = fields["stride"], fields.get("reverse", False)
    expected = [darknet(x, step, forward=back).reshape(shape) for x in X]
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"zoom_factor": 3}, (16, 10)),
        ({"shrink_factor": 2}, (3, 2)),
        ({"shrink_factor": 2, "zoom_factor": 4}, (9, 5)),
        ({"height": 7, "width": 4}, (7, 4)),
        ({"height": 1, "width": 9}, (1, 9)),
        ({"height": 6, "width": 4}, (6, 4)),
        ({"pad_beg": -1, "pad_end": -1, "zoom_factor": 2}, (7, 3)),
    ],
)
def test_interp(fields: Any, size: Shape, forward: Any) -> None:
    kept = slice(-fields.get("pad_beg", 0), fields.get("pad_end") or None)
    expected = X[:, :, kept, kept].astype(np.float64)
    for axis, cells in zip((2, 3), size, strict=True):
        old = np.arange(expected.shape[axis])
        at = np.linspace(0, old[-1], cells) if cells > 1 else [0.0]
        expected = np.apply_along_axis(lambda row, at=at, old=old: np.interp(at, old, row), axis,
                                       expected)  # fmt: skip
    (y,) = forward(Interp(**fields), X)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    if len(fields) == 2 and "height" in fields:
        like = np.zeros((3, 2, *size), np.float32)
        np.testing.assert_array_equal(forward(Interp(), X, like)[0], y)


def test_interp_has_a_window_if_it_zooms_by_a_whole_factor() -> None:
    x = TensorType(X.shape)
    ones = (1, 1)
    assert Interp(zoom_factor=3).window([x]) == Window((5, 5), (3, 3), (2, 2), ones, True)
    assert Interp(height=7, width=5).window([x]) is None
    assert Interp(zoom_factor=3, pad_beg=-1).window([x]) is None
    assert [Interp(**f).traceable([x]) for f in ({"zoom_factor": 3}, {"shrink_factor": 2})] == [
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({}, (12, 8)),
        ({"pad_out_h": True}, (11, 8)),
        ({"scale_h": 3, "scale_w": 2}, (18, 8)),
        ({"upsample_h": 11, "upsample_w": 7}, (11, 7)),
    ],
)
def test_upsampling_by_a_mask(fields: Any, size: Shape, forward: Any) -> None:
    places = np.argsort(G.random((3, 8, size[0] * size[1])), -1)[:, :, :24]
    mask = places.reshape(X.shape).astype(np.float32)
    expected = np.zeros((3, 8, size[0] * size[1]), np.float32)
    np.put_along_axis(expected, places, X.reshape(3, 8, 24), -1)
    for training in (False, True):
        (y,) = forward(Upsample(**fields), X, mask, training=training)
        np.testing.assert_array_equal(y, expected.reshape(3, 8, *size))


def test_a_place_beyond_the_plane_is_its_end(forward: Any) -> None:
    x, mask = np.array([[[[5.0]]]], np.float32), np.array([[[[99.0]]]], np.float32)
    np.testing.assert_array_equal(forward(Upsample(), x, mask)[0], [[[[0, 0], [0, 5]]]])


def test_bn_takes_the_batch_in_training(forward: Any) -> None:
    y, mean, variance = forward(BN(momentum=0.95), X, training=True, **GIVEN)
    np.testing.assert_allclose(mean, MEAN, atol=1e-6)
    np.testing.assert_allclose(variance, VAR, rtol=1e-5)
    np.testing.assert_allclose(y, normalised(MEAN, VAR, 1e-5), rtol=1e-3, atol=1e-5)


def test_bn_folds_the_new_share(bench: Any) -> None:
    made = bench(BN(momentum=0.75), [TensorType(X.shape)], training=True)
    assert [fraction for _, fraction in made.observed.values()] == [0.25, 0.25]


def test_bn_takes_the_running_values(forward: Any) -> None:
    expected = normalised(RUNNING["running_mean"], RUNNING["running_var"], 1e-3)
    for fields, training in (({}, False), ({"frozen": True}, False), ({"frozen": True}, True)):
        tops = forward(BN(eps=1e-3, **fields), X, training=training, **GIVEN, **RUNNING)
        (y,) = tops
        np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_bn_of_segnet(training: bool, forward: Any) -> None:
    (y,) = forward(BN(bn_mode="INFERENCE"), X, training=training, **GIVEN)
    np.testing.assert_allclose(y, X * SLOPE + BIAS, rtol=1e-5, atol=1e-6)
    (y,) = forward(BN(bn_mode="LEARN", eps=1e-9), X, training=training, **GIVEN)
    np.testing.assert_allclose(y, normalised(MEAN, VAR, 1e-9), rtol=1e-3, atol=1e-5)


def test_bn_counts_its_weights() -> None:
    x = [TensorType(X.shape)]
    assert [w.shape for w in BN().weights(x)] == [(8,), (8,)]
    assert [s.name for s in BN().statistics(x)] == ["running_mean", "running_var"]
    assert BN(bn_mode="LEARN").statistics(x) == ()


def test_bn_of_one_cell_has_no_variance(forward: Any) -> None:
    with pytest.raises(ShapeError, match="TRAIN has one cell per channel in 1x8x1x1"):
        forward(BN(), X[:1, :, :1, :1], training=True)


S = X.shape


@pytest.mark.parametrize(
    ("layer", "shapes", "field", "message"),
    [
        (Axpy(), [(3, 8), S, (3, 8, 6, 5)], None, "adds 3x8x6x5 to 3x8x6x4: these must be of one"),
        (Axpy(), [(3, 7), S, S], None, "one number for each channel of 3x8x6x4, not 3x7"),
        (Axpy(), [(2, 8), S, S], None, "one number for each channel of 3x8x6x4, not 2x8"),
        (Axpy(), [(3,), (3,), (3,)], None, "takes channels, not one number per sample"),
        (Reorg(stride=3), [S], "stride", "stride² 9 does not divide 8 channels"),
        (Reorg(stride=2), [(1, 4, 6, 3)], "stride", "stride 2 does not divide 6x3"),
        (Reorg(stride=2), [(1, 4)], None, "takes channels x height x width, not 4"),
        (Interp(), [S], None, "takes its size from zoom_factor and shrink_factor, from height"),
        (Interp(zoom_factor=2), [S, S], None, "from one of them"),
        (Interp(height=4), [S], "height", "height and width go together"),
        (Interp(width=4), [S], "width", "height and width go together"),
        (Interp(zoom_factor=2, pad_end=1), [S], "pad_end", "pad_end crops: it must be 0 or less"),
        (Interp(zoom_factor=2, pad_beg=-4), [S], "pad_beg", "nothing of 6x4 is kept"),
        (Upsample(), [S], None, "needs `scale`"),
        (Upsample(scale=2, pad_out_h=True), [S], "pad_out_h", "goes with a mask, a second bottom"),
        (Upsample(), [S, (3, 8, 6, 5)], None, "a mask for 3x8x6x5 cells, but these are 3x8x6x4"),
        (Upsample(scale_h=2), [S, S], "scale_h", "scale_h and scale_w go together"),
        (Upsample(scale=3, pad_out_w=True), [S, S], "pad_out_w", "goes with a scale of 2, not 3"),
        (Upsample(mode="BILINEAR"), [S, S], "mode", "a mask leaves nothing to interpolate"),
        (Upsample(), [(3, 8, 6), (3, 8, 6)], None, "takes channels x height x width, not 8x6"),
        (BN(bn_mode="LEARN", frozen=True), [S], "frozen", "bn_mode excludes frozen"),
        (BN(), [(3,)], None, "takes channels, not one number per sample"),
    ],
)
def test_refused(layer: Layer, shapes: list[Shape], field: str | None, message: str) -> None:
    with pytest.raises(ShapeError, match=re.escape(message)) as caught:
        layer.infer([TensorType(shape) for shape in shapes])
    assert caught.value.field == field
