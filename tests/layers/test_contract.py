"""What every layer type owes, by discovery."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from textwrap import dedent

import pytest
from pydantic import ValidationError

from netspec.compiler import compile_spec, elaborate, read
from netspec.diagnostics import NetspecError
from netspec.ir.layer import Layer, Role, ShapeError
from netspec.ir.types import Shape, TensorType
from netspec.layers import LAYERS
from netspec.report.reference import reference

each_layer = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS.keys())
each_reader = pytest.mark.parametrize(
    "keyword", [k for k, c in LAYERS.items() if c.role not in (Role.INPUT, Role.SOURCE, Role.SINK)]
)

NEEDED = {"num_output": 2, "shape": {"dim": [0, -1]}, "scale": 2, "order": [0, 1], "tiles": 2,
          "pyramid_height": 2, "min": 0, "max": 1, "type": "Python",
          "stride": 2, "min_size": 2, "pooled_h": 2, "pooled_w": 2, "output_dim": 2,
          "group_size": 1, "num_classes": 2, "file_name": "x.h5",
          "input_dim": 4, "kernel_size": 1}  # fmt: skip
ANYTHING = ("opaque", "filter", "split")
"""Layers that take labels as well as numbers."""


def required(layer: type[Layer]) -> dict[str, object]:
    """The fields that a layer must be given."""
    return {k: NEEDED[k] for k, field in layer.model_fields.items() if field.is_required()}


@each_layer
def test_documented(layer: type[Layer]) -> None:
    assert layer.__doc__
    assert layer.__doc__ != Layer.__doc__
    for field in reference(layer).fields:
        assert field.description, f"{layer.__name__}.{field.name} has no docstring"


@each_layer
def test_example_uses_the_layer(layer: type[Layer]) -> None:
    assert re.search(rf"^\s*{layer.keyword}\b", layer.example, re.MULTILINE)
    assert layer.example.count("{") == layer.example.count("}")


@pytest.mark.parametrize("keyword", LAYERS)
def test_registered_under_its_keyword(keyword: str) -> None:
    assert LAYERS[keyword].keyword == keyword
    assert re.fullmatch("[a-z][a-z0-9_]*", keyword)


def test_caffe_names_are_unique() -> None:
    caffe = [layer.caffe for layer in LAYERS.values() if layer.caffe]
    assert max(Counter(word for c in caffe for word in c.words).values()) == 1


@each_layer
def test_unknown_fields_are_refused(layer: type[Layer]) -> None:
    with pytest.raises(ValidationError, match="extra_forbidden"):
        layer.model_validate({"no_such_field": 1})


@each_reader
def test_labels_are_not_numbers(keyword: str) -> None:
    if keyword in ANYTHING:
        return
    layer = LAYERS[keyword]
    made = layer.model_validate(required(layer))
    labels = TensorType((4, 6, 6, 6), "int64")
    if 0 in layer.labels:
        pytest.skip(f"{keyword} takes labels")
    with pytest.raises(ShapeError, match="takes numbers, not labels"):
        made.infer([labels] * layer.bottoms.start)


@each_reader
@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 3, 6, 6)], ids=str)
def test_one_number_for_the_batch_is_taken_or_refused(keyword: str, shape: Shape) -> None:
    """What `reduction` gives by default, as each of the bottoms in turn."""
    layer = LAYERS[keyword]
    made = layer.model_validate(required(layer))
    for count in {layer.bottoms.start, min(3, layer.bottoms.stop - 1)}:
        for place in range(count):
            bottoms = made.read([TensorType(() if i == place else shape) for i in range(count)])
            try:
                tops = made.infer(bottoms)
            except ShapeError:
                continue
            assert len(tops) == 1
            assert (made.weights(bottoms), made.macs(bottoms)) == ((), 0)


@each_layer
def test_deployed_is_a_prediction(layer: type[Layer]) -> None:
    if layer.role in (Role.LOSS, Role.METRIC):
        deployed = layer().deploy()
        assert deployed is None or deployed.role is Role.HIDDEN


@each_layer
def test_example_compiles(layer: type[Layer], tmp_path: Path) -> None:
    path = tmp_path / "example.net"
    path.write_text(dedent(layer.example))
    spec = read(str(path))
    met = [node for node in elaborate(spec).test.net.nodes if node.layer.obstacle]
    if met:
        (node,) = met
        assert isinstance(node.layer, layer), "the others of an example run"
        said = f"`{node.name}` {node.layer.obstacle}: netspec counts it but does not run it"
        with pytest.raises(NetspecError, match=f"^{re.escape(said)}$"):
            compile_spec(spec, seed=1)
        return
    nodes = elaborate(spec).test.net.nodes
    fixed = any(node.layer.bound(node.bottom_types) for node in nodes)
    assert compile_spec(spec, batch=1 if fixed else None, seed=1).difference < 1e-4
