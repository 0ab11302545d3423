"""Nets to flat native text: every block, repeat, group and name resolved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from netspec.grammar import making
from netspec.grammar.ast import Element, Item, List, Message, String
from netspec.grammar.making import NOWHERE
from netspec.ir.fields import Fields, plain
from netspec.ir.layer import Phase, Role
from netspec.ir.net import Net, Node
from netspec.ir.reading import kind_of


def flatten(test: Net, train: Net) -> Message:
    """One flat spec that builds both nets again; what is in one phase only says so.

    residual { conv }   →   conv "residual1/conv1"  eltwise "residual1/eltwise1" { bottom: … }
    """
    items: list[Item] = [making.field("name", String(train.name, NOWHERE))]
    for label, net in (("train", train), ("test", test)):
        if net.data is not None and not (label == "test" and net.data.val):  # training's stands in
            items.append(making.element("data", label, fields(net.data)))
    flow = _Flow()
    for nodes in _merged(test, train):
        items += flow.layers(nodes)
    items += _ends(test, train)
    if train.solver is not None:
        items.append(making.element("solver", None, fields(train.solver)))
    return Message(tuple(items), NOWHERE)


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
        head = making.element("head", next(labels), [making.field("bottom", String(blob, NOWHERE))])
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
            layers.append(making.element(node.layer.keyword, node.name, written[phase]))
        if len(layers) == 2 and layers[0] == layers[1]:
            return layers[:1]
        return [_only(phase, layer) for phase, layer in zip(nodes, layers, strict=True)]

    def _items(self, node: Node) -> list[Item]:
        """What the layer says, but for its bottoms."""
        items: list[Item] = []
        if node.tops != (node.name,):
            items += [making.field("top", String(top, NOWHERE)) for top in node.tops]
        items += fields(node.layer)
        items += _params(node)
        weights = (node.loss_weight, *node.further_loss_weights)
        if weights != (1 if node.layer.role is Role.LOSS else 0,):
            weights += (0.0,) * (len(node.tops) - len(weights))
            items += [making.field("loss_weight", making.number(w)) for w in weights]
        for flag in node.propagate_down:
            items.append(making.field("propagate_down", making.scalar(flag)))
        return items

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
        if not node.bottoms:
            return [making.field("bottom", List((), NOWHERE))]
        return [making.field("bottom", String(bottom, NOWHERE)) for bottom in self._read(node)]

    def _advance(self, node: Node, phase: Phase) -> None:
        """Where the flow stands after the layer, as `build` will see it."""
        first = node.layer.role in (Role.INPUT, Role.SOURCE) and phase not in self.current
        if node.layer.role is Role.HIDDEN or (first and node.name != "label"):
            self.current[phase] = node.tops[0]


def _only(phase: Phase, layer: Element) -> Element:
    """The layer, in one phase only."""
    items = layer.body.items if layer.body else ()
    return replace(layer, body=Message((making.only(phase), *items), NOWHERE))


def _params(node: Node) -> list[Item]:
    """`param { … }` for each weight up to the last that is not as usual."""
    weights = node.layer.weights(node.bottom_types)
    written: list[list[Item]] = []
    for weight, parameter in zip(weights, node.parameters, strict=True):
        own: list[Item] = []
        if parameter.name != f"{node.name}.{weight.name}":
            own.append(making.field("name", String(parameter.name, NOWHERE)))
        for key in ("lr_mult", "decay_mult"):
            if getattr(parameter, key) != 1:
                own.append(making.field(key, making.number(getattr(parameter, key))))
        if parameter.share_mode != "STRICT":
            own.append(making.field("share_mode", making.word(parameter.share_mode)))
        written.append(own)
    while written and not written[-1]:
        written.pop()
    return [making.message("param", own) for own in written]


def _items(model: type[Fields], data: Mapping[str, Any]) -> list[Item]:
    items: list[Item] = []
    for key, value in data.items():
        kind = kind_of(model, key)
        values = value if isinstance(value, list) else [value]
        if kind.message is not None and all(isinstance(v, dict) for v in values):
            for message in values:
                items.append(making.message(key, _items(kind.message, message)))
        elif kind.words and isinstance(value, list):
            listed = List(tuple(map(making.word, value)), NOWHERE)
            items.append(making.field(key, listed))
        elif isinstance(value, str) and kind.words:
            items.append(making.field(key, making.word(value)))
        else:
            items.append(making.field(key, making.value(value)))
    return items
