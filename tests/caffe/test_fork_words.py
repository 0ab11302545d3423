"""What layers of forks mean that our layers of the same name say in other words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from netspec.caffe_files import upgrade
from netspec.compiler import Spec, compile_spec, elaborate, read

HEAD = 'input: "x" input_shape { dim: 1 dim: 3 dim: 4 dim: 5 }\n'
NORMALIZE = 'layer { name: "norm" type: "Normalize" bottom: "x" top: "norm" %s }'


def spec(folder: Path, text: str) -> Spec:
    path = folder / "net.prototxt"
    path.write_text(HEAD + text, encoding="utf-8")
    return read(str(path))


@pytest.mark.parametrize(
    ("fields", "axes", "shape"),
    [
        ("norm_param { }", (1, 2, 3), ()),
        ("norm_param { channel_shared: false }", (1, 2, 3), (3,)),
        ("norm_param { across_spatial: false }", (1,), ()),
        ("norm_param { across_spatial: false channel_shared: false }", (1,), (3,)),
    ],
)
def test_ssds_normalize_learns_a_scale_and_spans_the_image_unless_told_otherwise(
    fields: str, axes: tuple[int, ...], shape: tuple[int, ...], tmp_path: Path
) -> None:
    net = spec(tmp_path, NORMALIZE % fields)
    (parameter,) = elaborate(net).test.net.parameters
    assert parameter.shape == shape
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 3, 4, 5), np.float32)
    scale = rng.standard_normal(shape).astype(np.float32)
    model = compile_spec(net, weights={parameter.name: scale}).model
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = x / np.sqrt((x**2).sum(axes, keepdims=True)) * scale.reshape(-1, 1, 1)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, rtol=1e-5, atol=1e-6)


def test_the_scale_of_normalize_is_1_unless_it_is_filled(tmp_path: Path) -> None:
    plain, filled = (
        elaborate(spec(tmp_path, NORMALIZE % fields)).train.net.parameters[0].filler.value
        for fields in ("norm_param { }", "norm_param { scale_filler { value: 20 } }")
    )
    assert (plain, filled) == (1, 20)


def test_a_normalize_of_other_forks_has_nothing_to_learn(tmp_path: Path) -> None:
    assert not elaborate(spec(tmp_path, NORMALIZE % "")).test.net.parameters


def test_where_detections_are_written_is_left_out(tmp_path: Path) -> None:
    text = (
        HEAD
        + """
        layer { name: "p" type: "PriorBox" bottom: "x" bottom: "x" top: "p"
          prior_box_param { min_size: 2 } }
        layer { name: "loc" type: "InnerProduct" bottom: "x" top: "loc"
          inner_product_param { num_output: 80 } }
        layer { name: "conf" type: "InnerProduct" bottom: "x" top: "conf"
          inner_product_param { num_output: 40 } }
        layer { name: "out" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "p"
          top: "out" detection_output_param { num_classes: 2 keep_top_k: 3 visualize: true
            save_output_param { output_format: "VOC" } } }
    """
    )
    path = tmp_path / "net.prototxt"
    path.write_text(text, encoding="utf-8")
    assert "save" not in upgrade(str(path))
    assert "visualize" not in upgrade(str(path))
    *_, out = elaborate(read(str(path))).test.net.nodes
    assert out.top_types[0].shape == (1, 1, 3, 7)


def test_the_statistics_of_a_bn_have_params_too(tmp_path: Path) -> None:
    text = 'layer { name: "bn" type: "BN" bottom: "x" top: "bn" %s }'
    params = "param { lr_mult: 2 } param { lr_mult: 3 } param { lr_mult: 0 } param { lr_mult: 0 }"
    parameters = elaborate(spec(tmp_path, text % params)).test.net.parameters
    assert [p.lr_mult for p in parameters] == [2, 3]
