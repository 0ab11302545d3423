"""A Caffe net, a Caffe solver and a native spec are told apart by what stands in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from netspec.caffe.recognise import NET_MESSAGES, SOLVER_MESSAGES, recognise
from netspec.caffe.schema import schema
from netspec.diagnostics import Source
from netspec.grammar.parser import parse

ROOT = Path(__file__).parents[2]
LAYER = 'layer { name: "a" type: "ReLU" bottom: "x" top: "a" }\n'


def kind(text: str) -> str | None:
    return recognise(parse(Source("x", text)))


@pytest.mark.parametrize(
    "text",
    [
        LAYER,
        'layers { type: RELU bottom: "x" top: "a" }',
        'name: "n" input: "data" input_dim: 1 input_dim: 3 input_dim: 9 input_dim: 9',
        'input: "data" input_shape { dim: 1 }',
        "force_backward: true",
        "state { phase: TRAIN }",
        'layer < type: "Silence" bottom: "x" >',
        f"base_lr: 0.1 {LAYER}",
        # one native layer pasted into a net, and a net with a layer's name in the wrong place
        LAYER * 3 + "relu",
        'layer "conv1" { type: "ReLU" }',
        LAYER * 3 + 'layr { name: "a" type: "ReLU" }',
    ],
)
def test_nets(text: str) -> None:
    assert kind(text) == "net"


@pytest.mark.parametrize(
    "text",
    [
        'net: "a.prototxt" base_lr: 0.1',
        "max_iter: 10",
        'train_net: "a" test_net: "b"',
        f"net_param {{ {LAYER} }} base_lr: 1",
        "base_lr: 0.1 lr_polciy: 'fixed'",
        "debug_info: true base_lr: 1",
    ],
)
def test_solvers(text: str) -> None:
    assert kind(text) == "solver"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing",
        'name: "n"',
        "relu",
        'input "data" { shape: 3x4x5 } relu',
        "let a = 1",
        "block layer() { relu } layer()",
        "solver { base_lr: 0.1 }",
        "max_epoch: 5",
        # one of Caffe's layers pasted into a native spec, and a solver's field in the wrong place
        f"conv {{ num_output: 1 }} relu {LAYER}",
        f'conv "a" {{ num_output: 1 }} {LAYER}',
        'base_lr: 0.1 conv "a" { num_output: 1 } relu',
        'item { name: "cat" label: 1 }',
    ],
)
def test_native_specs(text: str) -> None:
    assert kind(text) is None


@pytest.mark.parametrize("path", sorted(ROOT.glob("specs/**/*.net")), ids=lambda p: p.stem)
def test_the_zoo_is_native(path: Path) -> None:
    assert kind(path.read_text("utf-8")) is None


def test_the_messages_are_the_schemas() -> None:
    messages = schema().messages

    def within(name: str) -> set[str]:
        fields = messages[name].fields.values()
        return {field.name for field in fields if field.type in messages}

    assert within("NetParameter") == NET_MESSAGES
    assert within("SolverParameter") == SOLVER_MESSAGES
