"""Deconvolution against Caffe's own cases, its fillers, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netspec.ir.filler import Filler
from netspec.ir.layer import ShapeError
from netspec.ir.types import TensorType
from netspec.layers.deconv import Deconvolution

G = np.random.default_rng(0)


def test_caffes_shape(caffe_cases: Any) -> None:
    case = caffe_cases["deconv_setup"]
    layer = Deconvolution(num_output=4, kernel_size=3, stride=2)
    (top,) = layer.infer([TensorType(tuple(case["in_shape"]))])
    assert top.shape == tuple(case["out_shape"])


def test_caffes_values(forward: Any) -> None:
    # TestSimpleDeconvolution: 3.1, and 6.1 or 12.1 where windows overlap on one axis or on both.
    x = np.ones((2, 3, 6, 4), np.float32)
    layer = Deconvolution(num_output=4, kernel_size=3, stride=2)
    (y,) = forward(layer, x, weight0=np.ones((3, 4, 3, 3)), weight1=np.full(4, 0.1))
    inner = [(np.arange(n) % 2 == 0) & (np.arange(n) > 0) & (np.arange(n) < n - 1) for n in (13, 9)]
    twice = inner[0][:, None].astype(int) + inner[1][None, :]
    np.testing.assert_allclose(y, np.broadcast_to(3 * 2.0**twice + 0.1, y.shape), rtol=1e-5)


def test_counts() -> None:
    # FCN-32s' upscore (Long et al. 2015): 21 classes, 64x64 windows at stride 32.
    layer = Deconvolution(num_output=21, kernel_size=64, stride=32, bias_term=False)
    x = TensorType((2, 21, 16, 16))
    assert layer.infer([x])[0].shape == (2, 21, 544, 544)
    assert layer.parameters([x]) == 21 * 21 * 64 * 64
    assert layer.macs([x]) == 2 * 16 * 16 * 21 * 21 * 64 * 64
    apart = Deconvolution(num_output=21, kernel_size=64, stride=32, group=21)
    assert apart.parameters([x]) == 21 * 64 * 64 + 21
    window = layer.window([x])
    assert (window.kernel, window.stride, window.transposed) == ((64, 64), (32, 32), True)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8])
def test_bilinear_is_caffes(size: int) -> None:
    # BilinearFiller: with f = ceil(k/2), c = (k - 1)/2f, a cell (x, y) is (1-|x/f-c|)(1-|y/f-c|).
    half = np.ceil(size / 2)
    centre = (size - 1) / (2 * half)
    tent = 1 - np.abs(np.arange(size) / half - centre)
    weight = Filler(type="bilinear").sample((3, 2, size, size), G)
    assert weight.dtype == np.float32
    np.testing.assert_allclose(weight, np.broadcast_to(np.outer(tent, tent), weight.shape))


def test_bilinear_interpolates(forward: Any) -> None:
    # A plane a·i + b·j stays one at twice the resolution, up to its rim.
    rows, columns = np.mgrid[:6, :7].astype(np.float32)
    layer = Deconvolution(
        num_output=1, kernel_size=4, stride=2, pad=1, bias_term=False,
        weight_filler=Filler(type="bilinear"),
    )  # fmt: skip
    (y,) = forward(layer, (2 * rows - columns)[None, None])
    i, j = np.mgrid[:12, :14]
    expected = 2 * (i / 2 - 0.25) - (j / 2 - 0.25)
    np.testing.assert_allclose(y[0, 0, 1:-1, 1:-1], expected[1:-1, 1:-1], rtol=1e-5)


def test_positive_unitball_adds_up_to_one() -> None:
    weight = Filler(type="positive_unitball").sample((4, 3, 5, 5), G)
    assert weight.min() >= 0
    np.testing.assert_allclose(weight.reshape(4, -1).sum(1), 1, rtol=1e-5)
    assert np.ptp(weight[0]) > 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kernel_size": 3, "group": 2}, "2 groups do not divide 3 channels of the bottom"),
        ({"kernel_size": 3, "group": 3}, "3 groups do not divide 4 channels of the top"),
        ({"kernel_size": 1, "pad": 3}, "pad 3x3 takes all of 6x4 cells away"),
        ({}, "needs kernel_size"),
    ],
)
def test_refused(fields: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        Deconvolution(num_output=4, **fields).infer([TensorType((2, 3, 6, 4))])
