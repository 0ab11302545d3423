"""Inputs named at a net's head become a layer (UpgradeNetInput in util/upgrade_proto.cpp).

input: "data"  input_dim: 1  input_dim: 3  input_dim: 227  input_dim: 227
layer { name: "input" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 … } } }
"""

from __future__ import annotations

from typing import Final

from netspec.caffe.faults import Faults
from netspec.caffe.message import (
    Items,
    key,
    new_element,
    renamed,
    single,
    spread,
)
from netspec.diagnostics import SpecError
from netspec.grammar import making
from netspec.grammar.ast import Element, Field, Item, String

_AXES: Final = 4
"""Every input has as many `input_dim`: samples, channels, height, width."""


def to_layer(items: Items, faults: Faults) -> Items:
    """The items of a net with its `input` fields as a layer called `input`, before all others."""
    inputs = [one for item in items if key(item) == "input" for one in _fields(item)]
    dims = [one for item in items if key(item) == "input_dim" for one in _fields(item)]
    shapes = [i for i in spread(items) if key(i) == "input_shape" and isinstance(i, Element)]
    sizes: list[Element] = []
    if not inputs:
        idle: list[Field | Element] = [*dims[:1], *shapes[:1]]
        for item in idle:
            message = f"Caffe passes over `{key(item)}`: no `input` names a blob"
            faults.warn(SpecError(message, item.span, code="field"))
    elif shapes:
        sizes = _shapes(inputs, shapes, dims, faults)
    elif dims:
        sizes = _legacy_shapes(inputs, dims, faults)
    else:
        message = "Caffe passes over `input` that has neither `input_shape` nor `input_dim`"
        faults.warn(SpecError(message, inputs[0].span, code="field"))
    kept = [item for item in items if key(item) not in {"input", "input_dim", "input_shape"}]
    if sizes:
        kept.insert(_place(items, kept), _layer(inputs, sizes))
    return tuple(kept)


def _fields(item: Item) -> list[Field]:
    return list(single(item)) if isinstance(item, Field) else []


def _shapes(
    inputs: list[Field], shapes: list[Element], dims: list[Field], faults: Faults
) -> list[Element]:
    if dims:
        message = "Caffe passes over `input_dim` where `input_shape` is given, too"
        faults.warn(SpecError(message, dims[0].span, code="field"))
    if len(shapes) < len(inputs):
        message = f"{len(inputs)} `input` need as many `input_shape`; there are {len(shapes)}"
        faults.error(SpecError(message, inputs[len(shapes)].span, code="shape"))
    elif len(shapes) > len(inputs):
        message = f"Caffe passes over `input_shape` beyond the {len(inputs)} that `input` names"
        faults.warn(SpecError(message, shapes[len(inputs)].span, code="shape"))
    return [_as_shape(element) for element in shapes[: len(inputs)]]


def _as_shape(element: Element) -> Element:
    renewed = renamed(element, "shape")
    assert isinstance(renewed, Element)
    return renewed


def _legacy_shapes(inputs: list[Field], dims: list[Field], faults: Faults) -> list[Element]:
    wanted = _AXES * len(inputs)
    if len(dims) < wanted:
        message = f"{len(inputs)} `input` need {wanted} `input_dim`, {_AXES} each"
        fault = SpecError(f"{message}; there are {len(dims)}", dims[-1].span, code="shape")
        faults.error(fault)
    elif len(dims) > wanted:
        message = f"Caffe passes over `input_dim` beyond the {wanted} of {len(inputs)} `input`"
        faults.warn(SpecError(message, dims[wanted].span, code="shape"))
    runs = [dims[at : at + _AXES] for at in range(0, min(len(dims), wanted), _AXES)]
    return [new_element("shape", [renamed(d, "dim") for d in run], run[0].span) for run in runs]


def _place(items: Items, kept: list[Item]) -> int:
    """Where among `kept` the layer goes: before all others, and for the first `input` if sooner."""
    heads = {"input", "layer", "layers"}
    first = next(at for at, item in enumerate(items) if key(item) in heads)
    before = {id(item) for item in items[:first]}
    return sum(id(item) in before for item in kept)


def _layer(inputs: list[Field], shapes: list[Element]) -> Element:
    span = inputs[0].span
    items: list[Item] = [
        making.field("name", String("input", span), span),
        making.field("type", String("Input", span), span),
        *(renamed(item, "top") for item in inputs),
        new_element("input_param", shapes, shapes[0].span),
    ]
    return new_element("layer", items, span)
