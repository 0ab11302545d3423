"""Layers without weights against OpenCV's importer of Caffe's nets, which is code of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.parity

POOLING = [
    ("MAX", 3, 2, 0), ("MAX", 3, 2, 1), ("MAX", 2, 2, 1), ("MAX", 3, 3, 2), ("MAX", 2, 1, 0),
    ("AVE", 3, 2, 0), ("AVE", 3, 2, 1), ("AVE", 3, 1, 1), ("AVE", 5, 3, 2), ("AVE", 2, 2, 1),
]  # fmt: skip
PAIRS = [
    *(
        (
            "Pooling",
            f"pooling_param {{ pool: {kind} kernel_size: {k} stride: {s} pad: {p} }}",
            f"pool {{ pool: {kind}  kernel_size: {k}  stride: {s}  pad: {p} }}",
        )
        for kind, k, s, p in POOLING
    ),
    ("LRN", "lrn_param { alpha: 0.3 beta: 0.6 local_size: 3 }",
     "lrn { alpha: 0.3  beta: 0.6  local_size: 3 }"),
    ("LRN", "lrn_param { alpha: 0.3 local_size: 3 norm_region: WITHIN_CHANNEL }",
     "lrn { alpha: 0.3  local_size: 3  norm_region: WITHIN_CHANNEL }"),
    ("Softmax", "softmax_param { axis: 2 }", "softmax { axis: 2 }"),
    ("Softmax", "", "softmax"),
    ("MVN", "", "mvn"),
    ("MVN", "mvn_param { across_channels: true }", "mvn { across_channels: true }"),
    ("MVN", "mvn_param { normalize_variance: false }", "mvn { normalize_variance: false }"),
    ("ELU", "elu_param { alpha: 0.3 }", "elu { alpha: 0.3 }"),
    ("ReLU", "relu_param { negative_slope: 0.2 }", "relu { negative_slope: 0.2 }"),
    ("Power", "power_param { power: 2 scale: 0.5 shift: 1 }",
     "power { power: 2  scale: 0.5  shift: 1 }"),
    ("AbsVal", "", "abs"),
    ("BNLL", "", "softplus"),
    ("Flatten", "flatten_param { axis: 1 end_axis: 2 }", "flatten { axis: 1  end_axis: 2 }"),
    ("Reshape", "reshape_param { axis: 1 num_axes: 2 shape { dim: -1 dim: 3 } }",
     "reshape { axis: 1  num_axes: 2  shape { dim: [-1, 3] } }"),
]  # fmt: skip


@pytest.mark.parametrize(("type", "param", "native"), PAIRS, ids=lambda x: x[:60])
def test_as_opencv_says(type: str, param: str, native: str, net: Any, drawn: Any) -> None:
    cv2 = pytest.importorskip("cv2")
    x = drawn(2, 6, 9, 8)
    text = f"""
        input: "data" input_shape {{ dim: 2 dim: 6 dim: 9 dim: 8 }}
        layer {{ name: "y" type: "{type}" bottom: "data" top: "y" {param} }}
    """
    other = cv2.dnn.readNetFromCaffe(np.frombuffer(text.encode(), np.uint8))
    other.setInput(x)
    expected = other.forward()
    (y,) = net.compiled(f'input "data" {{ shape: 6x9x8 }} {native}', {"data": x})
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
