"""What Caffe's forks mean by the types that BVLC's Caffe does not have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netspec.compiler import compile_spec, elaborate, read
from netspec.ir.net import Node

DATA = 'input: "data" input_shape { dim: 1 dim: 8 dim: 12 dim: 16 }\n'
CORPUS = Path(__file__).parents[4] / "shared/corpus/nets"

Layers = Callable[[str], dict[str, Node]]


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    """The layers of a Caffe net, by name."""

    def of(text: str) -> dict[str, Node]:
        path = tmp_path / "net.prototxt"
        path.write_text(DATA + text)
        return {node.name: node for node in elaborate(read(str(path))).test.net.nodes}

    return of


def bn(fields: str, params: int = 0) -> str:
    said = "param { lr_mult: 1 decay_mult: 0 } " * params
    return f'layer {{ name: "bn" type: "BN" bottom: "data" top: "bn" {said}{fields} }}'


@pytest.mark.parametrize(
    ("text", "fields", "statistics"),
    [
        (bn("bn_param { scale_filler { value: 1 } shift_filler { value: 0.001 } }"),
         {"bn_mode": "LEARN", "eps": 1e-9}, 0),
        (bn("bn_param { scale_filler { value: 1 } bn_mode: INFERENCE }", 2),
         {"bn_mode": "INFERENCE"}, 0),
        (bn("bn_param { slope_filler { value: 1 } momentum: 0.95 }", 4), {"momentum": 0.95}, 2),
        (bn("bn_param { scale_filler { value: 1 } var_eps: 1e-4 }", 4), {"eps": 1e-4}, 2),
        (bn("", 4), {}, 2),
        (bn(""), {}, 2),
    ],
)  # fmt: skip
def test_bn_is_segnets_or_pspnets(text: str, fields: Any, statistics: int, layers: Layers) -> None:
    node = layers(text)["bn"]
    said = node.layer.model_dump(exclude_defaults=True)
    assert {key: said[key] for key in said if key != "bias_filler"} == fields
    assert len(node.statistics) == statistics
    assert len(node.parameters) == 2


def test_a_frozen_bn_learns_nothing(layers: Layers) -> None:
    node = layers(bn("bn_param { frozen: true slope_filler { value: 1 } }", 4))["bn"]
    assert all(parameter.frozen for parameter in node.parameters)


@pytest.mark.parametrize(
    ("block", "fields", "shape"),
    [
        ("norm_param { }", {"scale": True, "across_spatial": True, "channel_shared": True}, ()),
        ("norm_param { across_spatial: false channel_shared: false scale_filler { value: 20 } }",
         {"scale": True, "scale_filler": {"value": 20.0}}, (8,)),
        ("", {}, None),
    ],
)  # fmt: skip
def test_normalize_learns_a_scale_in_ssd(
    block: str, fields: Any, shape: Any, layers: Layers
) -> None:
    text = f'layer {{ name: "n" type: "Normalize" bottom: "data" top: "n" {block} }}'
    node = layers(text)["n"]
    assert node.layer.model_dump(exclude_defaults=True) == fields
    assert [p.shape for p in node.parameters] == ([] if shape is None else [shape])


def test_segnets_pair_runs(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(
        DATA
        + """
        layer { name: "pool" type: "Pooling" bottom: "data" top: "pool" top: "mask"
                pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
        layer { name: "up" type: "Upsample" bottom: "pool" bottom: "mask" top: "up"
                upsample_param { scale: 2 upsample_h: 12 upsample_w: 16 } }
    """
    )
    compiled = compile_spec(read(str(path)))
    assert compiled.outputs == ("up",)
    assert compiled.net.nodes[-1].top_types[0].sample == (8, 12, 16)


@pytest.mark.parametrize(
    ("file", "parameters", "output"),
    [
        # VGG-16's convolutions, 14,714,688; figure 2 of Liu et al. 2016 by hand for the rest:
        # fc6 and fc7 5,769,216, conv6 to conv9 2,459,520, 512 scales, and on six maps 3x3
        # filters for 4 offsets and 21 classes of each box, 3,341,550.
        ("dgschwend__netscope/presets/SSD300.prototxt", 26_285_486, (1, 200, 7)),
        ("hszhao__PSPNet/evaluation/prototxt/pspnet50_ADE20K_473.prototxt", None, (150, 473, 473)),
    ],
)  # fmt: skip
def test_whole_nets_of_forks(file: str, parameters: int | None, output: Any) -> None:
    if not CORPUS.exists():
        pytest.skip(f"{CORPUS} is not there")
    net = elaborate(read(str(CORPUS / file))).test.net
    assert net.nodes[-1].top_types[0].sample == output
    if parameters is not None:
        assert sum(p.numel for p in net.parameters) == parameters
