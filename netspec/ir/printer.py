"""Nets to flat native text: every block, repeat, group and name resolved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
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
from netspec.ir.reading import kind_of

_NOWHERE = Span(Source("", ""), 0, 0)


def flatten(test: Net, train: Net) -> Message:
    """One flat spec that builds both nets again; what is in one phase only says so.

    residual { conv }   →   conv "residual1/conv1"  eltwise "residual1/eltwise1" { bottom: … }
    """
    items: list[Item] = [Field("name", _text(train.name), _NOWHERE, _NOWHERE)]
    for label, net in (("train", train), ("test", test)):
        if net.data is not None:
            items.append(_element("data", label, fields(net.data)))
    flow = _Flow()
    for nodes in _merged(test, train):
        items += flow.layers(nodes)
    items += _ends(test, train)
    if train.solver is not None:
        items.append(_element("solver", None, fields(train.solver)))
    return Message(tuple(items), _NOWHERE)


def fields(model: Fields) -> list[Item]:
    """The fields of a model that differ from their defaults, as items."""
    return _items(type(model), plain(model))


def _merged(test: Net, train: Net) -> Iterator[dict[Phase, Node]]:
    """The nodes of both nets in an order that keeps each net's own; those of one name together."""
    places = {node.name: i for i, node in enumerate(test.nodes)}
    done = 0
    for node in train.nodes:
        place = places.get(node.name, -1)
        if place < done:
            yield {Phase.TRAIN: node}
            continue
        yield from ({Phase.TEST: other} for other in test.nodes[done:place])
        yield {Phase.TRAIN: node, Phase.TEST: test.nodes[place]}
        done = place + 1
    yield from ({Phase.TEST: other} for other in test.nodes[done:])


def _ends(test: Net, train: Net) -> Iterator[Element]:
    """An empty head for each blob that ends a chain beside a loss: it is meant to."""
    taken = {node.name for net in (test, train) for node in net.nodes}
    labels = (label for label in map("end{}".format, count(1)) if label not in taken)
    unread = {net.phase: _unread(net) for net in (train, test)}
    for blob in dict.fromkeys([*unread[Phase.TRAIN], *unread[Phase.TEST]]):
        head = _element("head", next(labels), [_string("bottom", blob)])
        phases = [phase for phase, blobs in unread.items() if blob in blobs]
        yield head if len(phases) == 2 else _only(phases[0], head)


def _unread(net: Net) -> list[str]:
    """The blobs of hidden layers that nothing reads, in a net that has a loss."""
    if not any(node.weighed for node in net.nodes):
        return []
    read = {bottom for node in net.nodes for bottom in node.bottoms}
    hidden = [n for n in net.nodes if n.layer.role is Role.HIDDEN and not n.weighed]
    return [node.tops[0] for node in hidden if not read.intersection(node.tops)]


@dataclass
class _Flow:
    """Where the implicit chain of the flat text stands, in each phase."""

    current: dict[Phase, str] = field(default_factory=dict)

    def layers(self, nodes: Mapping[Phase, Node]) -> list[Element]:
        """One layer for the nodes of a name, or one per phase if they differ."""
        written = {phase: self._items(node) for phase, node in nodes.items()}
        implicit = all(self._follows(node, phase) for phase, node in nodes.items())
        if not implicit:
            for phase, node in nodes.items():
                written[phase] = self._bottoms(node) + written[phase]
        layers = []
        for phase, node in nodes.items():
            self._advance(node, phase)
            layers.append(_element(node.layer.keyword, node.name, written[phase]))
        if len(layers) == 2 and layers[0] == layers[1]:
            return layers[:1]
        return [_only(phase, layer) for phase, layer in zip(nodes, layers, strict=True)]

    def _items(self, node: Node) -> list[Item]:
        """What the layer says, but for its bottoms."""
        items: list[Item] = []
        if node.tops != (node.name,):
            items += [_string("top", top) for top in node.tops]
        items += fields(node.layer)
        items += _params(node)
        weights = (node.loss_weight, *node.further_loss_weights)
        if weights != (1 if node.layer.role is Role.LOSS else 0,):
            weights += (0.0,) * (len(node.tops) - len(weights))
            items += [Field("loss_weight", _number(w), _NOWHERE, _NOWHERE) for w in weights]
        return items + _blocked(node)

    def _read(self, node: Node) -> tuple[str, ...]:
        """The bottoms, without the label where a layer takes it unasked."""
        asks = node.layer.role in (Role.LOSS, Role.METRIC) and node.bottoms[1:] == ("label",)
        return node.bottoms[:1] if asks else node.bottoms

    def _follows(self, node: Node, phase: Phase) -> bool:
        """Whether the layer reads the current blob."""
        return node.layer.role in (Role.INPUT, Role.SOURCE) or self._read(node) == (
            self.current.get(phase),
        )

    def _bottoms(self, node: Node) -> list[Item]:
        return [_string("bottom", bottom) for bottom in self._read(node)]

    def _advance(self, node: Node, phase: Phase) -> None:
        """Where the flow stands after the layer, as `build` will see it."""
        first = node.layer.role in (Role.INPUT, Role.SOURCE) and phase not in self.current
        if node.layer.role is Role.HIDDEN or (first and node.name != "label"):
            self.current[phase] = node.tops[0]


def _only(phase: Phase, layer: Element) -> Element:
    """The layer, in one phase only."""
    rule = _message("include", [Field("phase", _word(phase), _NOWHERE, _NOWHERE)])
    items = layer.body.items if layer.body else ()
    return replace(layer, body=Message((rule, *items), _NOWHERE))


def _blocked(node: Node) -> list[Item]:
    """Where gradients do not go on."""
    words = ("true" if goes_on else "false" for goes_on in node.propagate_down)
    return [Field("propagate_down", _word(word), _NOWHERE, _NOWHERE) for word in words]


def _params(node: Node) -> list[Item]:
    """`param { … }` for each weight up to the last that is not as usual."""
    weights = node.layer.weights(node.bottom_types)
    written: list[list[Item]] = []
    for weight, parameter in zip(weights, node.parameters, strict=True):
        own: list[Item] = []
        if parameter.name != f"{node.name}.{weight.name}":
            own.append(_string("name", parameter.name))
        if parameter.shape != weight.shape:
            own.append(Field("share_mode", _word("PERMISSIVE"), _NOWHERE, _NOWHERE))
        for key in ("lr_mult", "decay_mult"):
            if getattr(parameter, key) != 1:
                own.append(Field(key, _number(getattr(parameter, key)), _NOWHERE, _NOWHERE))
        written.append(own)
    while written and not written[-1]:
        written.pop()
    return [_message("param", own) for own in written]


def _items(model: type[Fields], data: Mapping[str, Any]) -> list[Item]:
    items: list[Item] = []
    for key, value in data.items():
        kind = kind_of(model, key)
        values = value if isinstance(value, list) else [value]
        if kind.message is not None and all(isinstance(v, dict) for v in values):
            for message in values:
                items.append(_message(key, _items(kind.message, message)))
        elif kind.words and isinstance(value, list):
            listed = List(tuple(map(_word, value)), _NOWHERE)
            items.append(Field(key, listed, _NOWHERE, _NOWHERE))
        elif isinstance(value, str) and kind.words:
            items.append(Field(key, _word(value), _NOWHERE, _NOWHERE))
        else:
            items.append(Field(key, _value(value), _NOWHERE, _NOWHERE))
    return items


def _value(value: Any) -> Expr | List:
    return _list(value) if isinstance(value, list) else _scalar(value)


def _scalar(value: Any) -> Expr:
    if isinstance(value, bool):
        return _word("true" if value else "false")
    return _text(value) if isinstance(value, str) else _number(value)


def _list(values: list[Any]) -> Expr | List:
    """`3` for one value, `3x5` for a size, else `[0, 1]`."""
    if len(values) == 1:
        return _value(values[0])
    if all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in values):
        return Size(tuple(values), _NOWHERE)
    return List(tuple(map(_scalar, values)), _NOWHERE)


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


def _message(key: str, items: Sequence[Item]) -> Element:
    return Element(key, None, Message(tuple(items), _NOWHERE), _NOWHERE, _NOWHERE)


def _element(word: str, label: str | None, items: Sequence[Item]) -> Element:
    body = Message(tuple(items), _NOWHERE) if items else None
    return Element(word, None if label is None else _text(label), body, _NOWHERE, _NOWHERE)
