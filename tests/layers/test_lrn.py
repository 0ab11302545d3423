"""Local response normalisation against the reference in Caffe's own test."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netspec.ir.layer import ShapeError
from netspec.ir.types import TensorType
from netspec.layers.lrn import LRN


def caffe_lrn(x: np.ndarray, layer: LRN) -> np.ndarray:
    """`ReferenceLRNForward` of test_lrn_layer.cpp; across channels with k for its 1."""
    n, pad = layer.local_size, layer.local_size // 2
    square, y = x.astype(np.float64) ** 2, np.empty_like(x)
    for i, c, h, w in np.ndindex(*x.shape):
        if layer.norm_region == "ACROSS_CHANNELS":
            total = square[i, max(0, c - pad) : c + pad + 1, h, w].sum()
            base = layer.k + layer.alpha / n * total
        else:
            rows, columns = slice(max(0, h - pad), h + pad + 1), slice(max(0, w - pad), w + pad + 1)
            base = 1 + layer.alpha / n**2 * square[i, c, rows, columns].sum()
        y[i, c, h, w] = x[i, c, h, w] / base**layer.beta
    return y


@pytest.mark.parametrize("region", ["ACROSS_CHANNELS", "WITHIN_CHANNEL"])
@pytest.mark.parametrize("fields", [
    {}, {"local_size": 15}, {"local_size": 1}, {"alpha": 0.01, "beta": 0.5, "k": 2},
])  # fmt: skip
@pytest.mark.parametrize("training", [False, True])
def test_formula(region: Any, fields: Any, training: bool, forward: Any) -> None:
    x = np.random.default_rng(0).normal(0, 2, (2, 7, 3, 4)).astype(np.float32)
    layer = LRN(norm_region=region, **fields)
    (y,) = forward(layer, x, training=training)
    np.testing.assert_allclose(y, caffe_lrn(x, layer), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ({"local_size": 4}, (2, 3, 4, 4), "local_size must be odd, not 4"),
        ({}, (2, 3), "takes channels x height x width, not 3"),
    ],
)
def test_refused(fields: Any, shape: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        LRN(**fields).infer([TensorType(shape)])
