"""Nets to flat native text: every block, repeat, group and name resolved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from netspec.diagnostics import Source, Span
from netspec.grammar.ast import (
    Element,
    Expr,
    Field,
    Item,
    List,
    Message,
    Number,
    Reference,
    Size,
    String,
    Unary,
)
from netspec.ir.fields import Fields, plain
from netspec.ir.layer import Phase, Role
from netspec.ir.net import Net, Node
from netspec.ir.validate import kind_of

_NOWHERE = Span(Source("", ""), 0, 0)


def flatten(test: Net, train: Net) -> Message:
    """One flat spec that builds both nets again; what is in one phase only says so.

    residual { conv }   →   conv "residual1/conv1"  eltwise "residual1/eltwise1" { bottom: … }
    """
    items: list[Item] = [Field("name", _text(train.name), _NOWHERE, _NOWHERE)]
    for label, net in (("train", train), ("test", test)):
        if net.data is not None:
            items.append(_element("data", label, fields(net.data)))
    current: dict[Phase, str | None] = {Phase.TRAIN: None, Phase.TEST: None}
    for node, phases in _merged(test, train):
        items.append(_layer(node, phases, current))
    if train.solver is not None:
        items.append(_element("solver", None, fields(train.solver)))
    return Message(tuple(items), _NOWHERE)


def fields(model: Fields) -> list[Item]:
    """The fields of a model that differ from their defaults, as items."""
    return _items(type(model), plain(model))


def _merged(test: Net, train: Net) -> list[tuple[Node, tuple[Phase, ...]]]:
    """The nodes of both nets in the order of the text."""
    others = {node.name for node in train.nodes}
    shared = others & {node.name for node in test.nodes}
    pending = list(reversed(test.nodes))
    merged: list[tuple[Node, tuple[Phase, ...]]] = []
    for node in train.nodes:
        if node.name not in shared:
            merged.append((node, (Phase.TRAIN,)))
            continue
        while pending and pending[-1].name not in shared:
            merged.append((pending.pop(), (Phase.TEST,)))
        pending.pop()
        merged.append((node, (Phase.TRAIN, Phase.TEST)))
    merged.extend((node, (Phase.TEST,)) for node in reversed(pending))
    return merged


def _layer(
    node: Node, phases: Sequence[Phase], current: dict[Phase, str | None]
) -> Element:
    items: list[Item] = []
    if len(phases) == 1:
        rule = Field("phase", _word(phases[0]), _NOWHERE, _NOWHERE)
        items.append(_element("include", None, [rule]))
    items += [_string("bottom", b) for b in _explicit_bottoms(node, phases, current)]
    if node.tops != (node.name,):
        items += [_string("top", top) for top in node.tops]
    items += fields(node.layer)
    items += _params(node)
    if node.layer.role is Role.LOSS and node.loss_weight != 1:
        items.append(Field("loss_weight", _number(node.loss_weight), _NOWHERE, _NOWHERE))
    _advance(node, phases, current)
    return _element(node.layer.keyword, node.name, items)


def _explicit_bottoms(
    node: Node, phases: Sequence[Phase], current: Mapping[Phase, str | None]
) -> tuple[str, ...]:
    bottoms = node.bottoms
    if node.layer.role in (Role.LOSS, Role.METRIC) and bottoms[1:] == ("label",):
        bottoms = bottoms[:1]
    return () if all(bottoms == (current[p],) for p in phases) else bottoms


def _advance(node: Node, phases: Sequence[Phase], current: dict[Phase, str | None]) -> None:
    """Where the flow stands after the layer, as `build` will see it."""
    for phase in phases:
        first_input = node.layer.role is Role.INPUT and current[phase] is None
        if node.layer.role is Role.HIDDEN or (first_input and node.name != "label"):
            current[phase] = node.tops[0]


def _params(node: Node) -> list[Item]:
    """`param { … }` for each weight up to the last that is not as usual."""
    weights = node.layer.weights(node.bottom_types)
    written: list[list[Item]] = []
    for weight, parameter in zip(weights, node.parameters, strict=True):
        own: list[Item] = []
        if parameter.name != f"{node.name}.{weight.name}":
            own.append(_string("name", parameter.name))
        for key in ("lr_mult", "decay_mult"):
            if getattr(parameter, key) != 1:
                own.append(Field(key, _number(getattr(parameter, key)), _NOWHERE, _NOWHERE))
        written.append(own)
    while written and not written[-1]:
        written.pop()
    return [_element("param", None, own) for own in written]


def _items(model: type[Fields], data: Mapping[str, Any]) -> list[Item]:
    items: list[Item] = []
    for key, value in data.items():
        kind = kind_of(model, key)
        if kind.message is not None:
            for message in value if isinstance(value, list) else [value]:
                items.append(_element(key, None, _items(kind.message, message)))
        elif isinstance(value, str) and kind.words:
            items.append(Field(key, _word(value), _NOWHERE, _NOWHERE))
        else:
            written = _list(value) if isinstance(value, list) else _value(value)
            items.append(Field(key, written, _NOWHERE, _NOWHERE))
    return items


def _value(value: Any) -> Expr:
    if isinstance(value, bool):
        return _word("true" if value else "false")
    if isinstance(value, str):
        return _text(value)
    return _number(value)


def _list(values: list[Any]) -> Expr | List:
    """`3` for a pair of equals, `3x5` for a size, else `[0, 1]`."""
    if len(values) == 1 or (len(values) == 2 and values[0] == values[1]):
        return _value(values[0])
    if all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in values):
        return Size(tuple(values), _NOWHERE)
    return List(tuple(_value(v) for v in values), _NOWHERE)


def _number(value: float) -> Expr:
    text = repr(abs(value)).removesuffix(".0")
    number = Number(text, abs(value) if "." in text or "e" in text else int(abs(value)), _NOWHERE)
    return Unary("-", number, _NOWHERE) if value < 0 else number


def _word(word: str) -> Reference:
    return Reference((word,), _NOWHERE)


def _text(text: str) -> String:
    return String(text, _NOWHERE)


def _string(key: str, text: str) -> Field:
    return Field(key, _text(text), _NOWHERE, _NOWHERE)


def _element(word: str, label: str | None, items: Sequence[Item]) -> Element:
    body = Message(tuple(items), _NOWHERE) if items else None
    return Element(word, None if label is None else _text(label), body, _NOWHERE, _NOWHERE)
