"""Windows over channels x depth x height x width: shapes, counts, lints and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netspec.ir.layer import ShapeError
from netspec.ir.types import TensorType
from netspec.layers.convolution import Convolution
from netspec.layers.deconv import Deconvolution
from netspec.layers.im2col import Im2col
from netspec.layers.pool import Pooling

X = TensorType((2, 4, 16, 112, 110))


def test_convolution_over_a_volume() -> None:
    layer = Convolution(num_output=64, kernel_size=3, pad=1)
    assert layer.infer([X])[0].shape == (2, 64, 16, 112, 110)
    assert layer.parameters([X]) == 64 * 4 * 27 + 64
    assert layer.macs([X]) == 2 * 64 * 16 * 112 * 110 * 4 * 27
    window = layer.window([X])
    assert (window.kernel, window.stride, window.pad) == ((3, 3, 3), (1, 1, 1), (1, 1, 1))


def test_each_axis_may_have_its_own() -> None:
    layer = Convolution(
        num_output=6, group=2, kernel_size=[3, 5, 1], stride=[1, 2, 3], pad=[0, 2, 1],
        dilation=[2, 1, 1],
    )  # fmt: skip
    assert layer.infer([X])[0].shape == (2, 6, 12, 56, 38)
    assert [w.shape for w in layer.weights([X])] == [(6, 2, 3, 5, 1), (6,)]
    assert layer.macs([X]) == 2 * 6 * 12 * 56 * 38 * 2 * 15


def test_deconvolution_over_a_volume() -> None:
    layer = Deconvolution(num_output=8, group=2, kernel_size=[2, 4, 3], stride=2, pad=[0, 1, 1])
    assert layer.infer([X])[0].shape == (2, 8, 32, 224, 219)
    assert [w.shape for w in layer.weights([X])] == [(4, 4, 2, 4, 3), (8,)]
    assert layer.macs([X]) == X.numel * 4 * 24


def test_im2col_is_what_a_convolution_multiplies(forward: Any) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5, 4)).astype(np.float32)
    fields = {"kernel_size": [2, 3, 1], "stride": [1, 2, 1], "pad": [0, 1, 0]}
    w = np.random.default_rng(1).normal(size=(5, 3, 2, 3, 1))
    (columns,) = forward(Im2col.model_validate(fields), x)
    conv = Convolution.model_validate({"num_output": 5, "bias_term": False, **fields})
    (y,) = forward(conv, x, weight0=w)
    product = np.einsum("ok,nkdhw->nodhw", w.reshape(5, -1), columns)
    np.testing.assert_allclose(y, product, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("stride", "lost"),
    [
        ([1, 2, 2], "1 row and 1 column of 16x112x112"),
        ([2, 2, 1], "1 plane and 1 row of 16x112x112"),
        (2, "1 plane, 1 row and 1 column of 16x112x112"),
        ([4, 1, 1], None),
    ],
)
def test_lints(stride: Any, lost: str | None) -> None:
    layer = Convolution(num_output=8, kernel_size=3, stride=stride)
    lints = layer.lints([X.with_shape(2, 4, 16, 112, 112)])
    assert lints == ((f"the windows leave out the last {lost}",) if lost else ())


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Pooling(kernel_size=2), "takes channels x height x width, or channels x length, not"),
        (
            Convolution(num_output=8, kernel_h=3, kernel_w=3),
            "kernel_size 3x3 is height x width, but 4x16x112x110 has three axes",
        ),
        (
            Convolution(num_output=8, kernel_size=[17, 1, 1]),
            "a window of 17x1x1 does not fit into 16x112x110",
        ),
        (
            Convolution(num_output=8, kernel_size=3, transforms="flip"),
            "a filter over three axes has no transforms",
        ),
        (
            Deconvolution(num_output=8, kernel_size=2, pad=[0, 60, 0]),
            "pad 0x60x0 takes all of 17x113x111 cells away",
        ),
        (
            Deconvolution(num_output=8, kernel_size=2, stride_h=2, stride_w=2),
            "stride 2x2 is height x width, but 4x16x112x110 has three axes",
        ),
    ],
    ids=repr,
)
def test_refused(layer: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        layer.infer([X])
