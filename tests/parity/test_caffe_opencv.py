"""OpenCV's importer reads what we write as a caffemodel, and computes what NumPy computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netspec.caffe.weights import save_caffemodel
from netspec.compiler import elaborate, read

cv2 = pytest.importorskip("cv2")

pytestmark = pytest.mark.parity

NATIVE = """
input "data" { shape: 3x9x11 }
conv "conv1" { num_output: 8  kernel_size: 3  pad: 1  stride: 2 }
batch_norm "bn" { affine: false  eps: 1e-3 }
scale "scale" { bias_term: true }
prelu "slope"
conv "conv2" { num_output: 6  kernel_size: 3x2  group: 2  bias_term: false }
fc "ip" { num_output: 5 }
softmax "prob"
"""

PROTOTXT = """
name: "net"
input: "data"
input_shape { dim: 2 dim: 3 dim: 9 dim: 11 }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 8 kernel_size: 3 pad: 1 stride: 2 } }
layer { name: "bn" type: "BatchNorm" bottom: "conv1" top: "bn"
  batch_norm_param { use_global_stats: true eps: 1e-3 } }
layer { name: "scale" type: "Scale" bottom: "bn" top: "scale" scale_param { bias_term: true } }
layer { name: "slope" type: "PReLU" bottom: "scale" top: "slope" }
layer { name: "conv2" type: "Convolution" bottom: "slope" top: "conv2"
  convolution_param { num_output: 6 kernel_h: 3 kernel_w: 2 group: 2 bias_term: false } }
layer { name: "ip" type: "InnerProduct" bottom: "conv2" top: "ip"
  inner_product_param { num_output: 5 } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""

Array = np.ndarray[Any, np.dtype[Any]]


def convolve(x: Array, weight: Array, *, pad: int = 0, stride: int = 1, group: int = 1) -> Array:
    """Cross-correlation in float64, by its definition."""
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    kernel = weight.shape[2:]
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel, (2, 3))[:, :, ::stride, ::stride]
    parts = [
        np.einsum("nchwij,ocij->nohw", part, filters)
        for part, filters in zip(
            np.split(windows, group, axis=1), np.split(weight, group), strict=True
        )
    ]
    return np.concatenate(parts, 1)


def forward(x: Array, w: dict[str, Array]) -> Array:
    """The net in float64, by Caffe's formulas."""
    w = {name: array.astype(np.float64) for name, array in w.items()}

    def channels(name: str) -> Array:
        return w[name].reshape(1, -1, 1, 1)

    x = convolve(x.astype(np.float64), w["conv1.weight"], pad=1, stride=2) + channels("conv1.bias")
    x = (x - channels("bn.running_mean")) / np.sqrt(channels("bn.running_var") + 1e-3)
    x = x * channels("scale.weight") + channels("scale.bias")
    x = np.maximum(x, 0) + channels("slope.weight") * np.minimum(x, 0)
    x = convolve(x, w["conv2.weight"], group=2)
    x = x.reshape(len(x), -1) @ w["ip.weight"].T + w["ip.bias"]
    e: Array = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def computed(prototxt: str, caffemodel: bytes, x: Array) -> Array:
    """What OpenCV makes of the two, layer by layer: it fuses a Scale into groups wrongly."""
    net = cv2.dnn.readNetFromCaffe(
        np.frombuffer(prototxt.encode(), np.uint8), np.frombuffer(caffemodel, np.uint8)
    )
    net.enableFusion(False)
    net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    net.setInput(x, "data")
    y: Array = net.forward()
    return y


def weights(text: str, tmp_path: Path) -> tuple[Any, dict[str, Array]]:
    path = tmp_path / "net.net"
    path.write_text(text, encoding="utf-8")
    net = elaborate(read(str(path))).test.net
    rng = np.random.default_rng(3)
    shapes = {p.name: p.shape for p in net.parameters}
    arrays = {name: rng.normal(0, 0.3, shape) for name, shape in shapes.items()}
    for name, statistic in net.statistics.items():
        arrays[name] = rng.uniform(0.5, 2, statistic.shape)
    return net, {name: array.astype(np.float32) for name, array in arrays.items()}


def test_opencv_computes_what_the_weights_mean(tmp_path: Path) -> None:
    net, arrays = weights(NATIVE, tmp_path)
    x = np.random.default_rng(4).standard_normal((2, 3, 9, 11)).astype(np.float32)
    y = computed(PROTOTXT, b"".join(save_caffemodel(net, arrays)), x)
    np.testing.assert_allclose(y, forward(x, arrays), atol=1e-5)


def test_an_affine_batch_norm_is_a_scale_behind_it(tmp_path: Path) -> None:
    text = 'input "data" { shape: 3x4x5 }  batch_norm "bn"'
    prototxt = """
        input: "data"  input_shape { dim: 2 dim: 3 dim: 4 dim: 5 }
        layer { name: "bn" type: "BatchNorm" bottom: "data" top: "bn" }
        layer { name: "bn_scale" type: "Scale" bottom: "bn" top: "y"
          scale_param { bias_term: true } }
    """
    net, w = weights(text, tmp_path)
    x = np.random.default_rng(4).standard_normal((2, 3, 4, 5)).astype(np.float32)
    y = computed(prototxt, b"".join(save_caffemodel(net, w)), x)
    mean, variance, weight, bias = (
        w[f"bn.{name}"].reshape(1, 3, 1, 1).astype(np.float64)
        for name in ("running_mean", "running_var", "weight", "bias")
    )
    expected = (x - mean) / np.sqrt(variance + 1e-5) * weight + bias
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_a_deconvolution_in_groups_and_a_scale(tmp_path: Path) -> None:
    text = """
        input "data" { shape: 4x5x6 }
        deconv "up" { num_output: 6  kernel_size: 3  stride: 2  group: 2 }
        scale "scale"
    """
    prototxt = """
        input: "data"  input_shape { dim: 1 dim: 4 dim: 5 dim: 6 }
        layer { name: "up" type: "Deconvolution" bottom: "data" top: "up"
          convolution_param { num_output: 6 kernel_size: 3 stride: 2 group: 2 } }
        layer { name: "scale" type: "Scale" bottom: "up" top: "scale" }
    """
    net, w = weights(text, tmp_path)
    x = np.random.default_rng(4).standard_normal((1, 4, 5, 6)).astype(np.float32)
    y = computed(prototxt, b"".join(save_caffemodel(net, w)), x)
    expected = np.zeros((1, 6, 11, 13))
    for o in range(6):
        for c in range(2):
            for i, j in np.ndindex(5, 6):
                laid = x[0, 2 * (o // 3) + c, i, j] * w["up.weight"][2 * (o // 3) + c, o % 3]
                expected[0, o, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += laid
        expected[0, o] = (expected[0, o] + w["up.bias"][o]) * w["scale.weight"][o]
    np.testing.assert_allclose(y, expected, atol=1e-5)
