"""Windows over channels x length: shapes, counts and lints."""

from __future__ import annotations

import pytest

from netspec.ir.types import TensorType
from netspec.layers.convolution import Convolution
from netspec.layers.deconv import Deconvolution
from netspec.layers.pool import Pooling

X = TensorType((2, 40, 200))


def test_convolution_over_time() -> None:
    layer = Convolution(num_output=64, kernel_size=5, stride=2, pad=1)
    assert layer.infer([X])[0].shape == (2, 64, 99)
    assert layer.parameters([X]) == 64 * 40 * 5 + 64
    assert layer.macs([X]) == 2 * 64 * 99 * 40 * 5
    window = layer.window([X])
    assert (window.kernel, window.stride, window.pad) == ((5,), (2,), (1,))


def test_deconvolution_over_time() -> None:
    layer = Deconvolution(num_output=8, kernel_size=4, stride=2, pad=1)
    assert layer.infer([X])[0].shape == (2, 8, 400)


@pytest.mark.parametrize(("mode", "length"), [("CEIL", 100), ("FLOOR", 99)])
def test_pooling_over_time(mode: str, length: int) -> None:
    layer = Pooling.model_validate({"kernel_size": 3, "stride": 2, "round_mode": mode})
    assert layer.infer([X])[0].shape == (2, 40, length)
    lost = ("the windows leave out the last 1 cell of 200",) if mode == "FLOOR" else ()
    assert layer.lints([X]) == lost
