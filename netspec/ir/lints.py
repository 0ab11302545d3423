"""Lints of a whole net: what is legal, but probably not meant; each with its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

from netspec.diagnostics import Diagnostics, SpecError
from netspec.ir.backward import BIAS, ways_back
from netspec.ir.layer import Phase, Role
from netspec.ir.net import Net, Node, Place
from netspec.ir.receptive import Receptive, receptive_fields
from netspec.ir.types import size

_HEAVY = 0.9
_LARGE = 10_000_000
"""The share of the parameters, and their number, from which on one dense layer is too many."""


def lint(net: Net, places: tuple[Place, ...], diagnostics: Diagnostics) -> None:
    """Report what the rules find, once for each line: a block is expanded many times.

    bias-before-norm, dropout-before-norm, twice, untrained, stride, field, heavy, constant.
    """
    nodes = _Nodes(net)
    found: dict[tuple[str, int, str], list[tuple[str, str, Place]]] = {}
    for node, place in zip(net.nodes, places, strict=True):
        for code, rule in _RULES.items():
            for message in rule(node, nodes):
                key = (place.span.source.path, place.span.start, code)
                found.setdefault(key, []).append((node.name, message, place))
    for (_, _, code), same in found.items():
        name, message, place = same[0]
        more = f" (and {len(same) - 1} more of these)" if len(same) > 1 else ""
        told = SpecError(f"{name}: {message}{more}", place.span, code=code, trail=place.trail)
        diagnostics.warn(told)


@dataclass(frozen=True)
class _Nodes:
    """A net and its edges."""

    net: Net

    @cached_property
    def readers(self) -> Mapping[tuple[str, str], list[Node]]:
        """Who reads what a layer writes into a blob, by the names of both."""
        makers: dict[str, str] = {}
        readers: dict[tuple[str, str], list[Node]] = {}
        for node in self.net.nodes:
            for bottom in node.bottoms:
                readers.setdefault((makers.get(bottom, ""), bottom), []).append(node)
            makers.update(dict.fromkeys(node.tops, node.name))
        return readers

    def behind(self, node: Node) -> list[Node]:
        """The layers that read a layer's tops."""
        return [r for top in node.tops for r in self.readers.get((node.name, top), [])]

    @cached_property
    def trained(self) -> frozenset[str]:
        """The layers with a weight that a loss trains; empty where there is no loss."""
        if not any(node.weighed for node in self.net.nodes):
            return frozenset()
        return frozenset(name for name, way in ways_back(self.net).items() if way.weights)

    @cached_property
    def trained_weights(self) -> frozenset[str]:
        """The weights of those layers, which others may share."""
        trained = (node for node in self.net.nodes if node.name in self.trained)
        return frozenset(p.name for node in trained for p in node.parameters)

    @cached_property
    def fields(self) -> Mapping[str, Receptive | None]:
        return receptive_fields(self.net)

    @cached_property
    def parameters(self) -> int:
        return sum(p.numel for p in self.net.parameters)

    @cached_property
    def before_products(self) -> frozenset[str]:
        """The layers behind which another one multiplies by trained weights."""
        wanted: set[str] = set()
        found: set[str] = set()
        for node in reversed(self.net.nodes):
            if wanted.intersection(node.tops):
                found.add(node.name)
                wanted.update(node.bottoms)
            elif node.name in self.trained and _multiplies(node):
                wanted.update(node.bottoms)
        return frozenset(found)


def _multiplies(node: Node) -> bool:
    return bool(node.parameters) and node.layer.macs(node.bottom_types) > 0


def _normalises(node: Node) -> bool:
    """Whether a layer subtracts a mean over the batch, kept as a statistic."""
    return bool(node.statistics)


def _bias_before_norm(node: Node, nodes: _Nodes) -> Iterator[str]:
    names = [weight.name for weight in node.layer.weights(node.bottom_types)]
    behind = nodes.behind(node)
    if BIAS in names and _multiplies(node) and behind and all(map(_normalises, behind)):
        yield (
            f"its bias does nothing: `{behind[0].name}` subtracts it with the mean; "
            "bias_term: false leaves it out"
        )


def _dropout_before_norm(node: Node, nodes: _Nodes) -> Iterator[str]:
    """Li, Chen, Hu, Yang: Understanding the Disharmony between Dropout and BN, CVPR 2019."""
    if node.layer.keyword != "dropout" or nodes.net.phase is not Phase.TRAIN:
        return
    for reader in filter(_normalises, nodes.behind(node)):
        yield (
            f"`{reader.name}` learns the variance of what is left, and TEST leaves all: "
            "put it behind the last normalisation"
        )


def _twice(node: Node, nodes: _Nodes) -> Iterator[str]:
    prediction = node.layer.deploy() if node.layer.role is Role.LOSS else None
    if prediction is None or type(prediction) is type(node.layer):
        return
    for other in nodes.net.nodes:
        if type(other.layer) is type(prediction) and node in nodes.behind(other):
            yield f"it takes scores and does what `{other.name}` has done to them already"


def _untrained(node: Node, nodes: _Nodes) -> Iterator[str]:
    learned = any(not p.frozen for p in node.parameters)
    if learned and nodes.net.phase is Phase.TRAIN and nodes.trained:
        own = {p.name for p in node.parameters}
        if node.name not in nodes.trained and not own & nodes.trained_weights:
            yield "no loss depends on it: it is not trained"


def _stride(node: Node, _: _Nodes) -> Iterator[str]:
    """A 1x1 with a stride is a projection; a larger kernel is meant to see all there is."""
    window = node.layer.window(node.bottom_types)
    if window is None or window.transposed or prod(window.kernel) == 1:
        return
    if any(s > r for s, r in zip(window.stride, window.reach, strict=True)):
        yield (
            f"a window of {window} every {size(window.stride)} cells: "
            "what lies between is read by none"
        )


def _field(node: Node, nodes: _Nodes) -> Iterator[str]:
    """Scores of a whole image that hang on a part of it."""
    if node.layer.role is not Role.LOSS or nodes.net.phase is not Phase.TRAIN:
        return
    maker = next((n for n in reversed(nodes.net.nodes) if node.bottoms[0] in n.tops), None)
    seen = nodes.fields[maker.name] if maker is not None else None
    images = [t.spatial for n, t in nodes.net.inputs.items() if t.spatial and n != "label"]
    if seen is None or prod(seen.cells) > 1 or len(set(images)) != 1:
        return
    (extent,) = set(images)
    if any(n < m for n, m in zip(seen.size, extent, strict=True)):
        shown = "x".join(f"{float(n):g}" for n in seen.size)
        yield f"its scores see {shown} of the {size(extent)} cells of the image"


def _heavy(node: Node, nodes: _Nodes) -> Iterator[str]:
    own = sum(p.numel for p in node.parameters)
    dense = _multiplies(node) and not node.top_types[0].spatial if own > _LARGE else False
    if dense and own > _HEAVY * nodes.parameters:
        yield (
            f"it holds {own:,} of the {nodes.parameters:,} parameters, as it reads "
            f"{size(node.bottom_types[0].sample)}: pooling before it leaves fewer"
        )


def _constant(node: Node, nodes: _Nodes) -> Iterator[str]:
    if node.name not in nodes.trained or node.name not in nodes.before_products:
        return
    if not _multiplies(node):
        return
    asked = node.layer.weights(node.bottom_types)
    for weight, parameter in zip(asked, node.parameters, strict=True):
        alike = weight.filler.type == "constant" and weight.shape[0] > 1
        if alike and weight.name != BIAS and not parameter.frozen:
            yield (
                f"its {weight.name}s are all {weight.filler.value:g} at first: what it learns is "
                "the same for all, since their gradients are equal"
            )


_RULES: Mapping[str, Callable[[Node, _Nodes], Iterator[str]]] = {
    "bias-before-norm": _bias_before_norm,
    "dropout-before-norm": _dropout_before_norm,
    "twice": _twice,
    "untrained": _untrained,
    "stride": _stride,
    "field": _field,
    "heavy": _heavy,
    "constant": _constant,
}

CODES = (*_RULES, "unread", "window")
"""What lints are called; `unread` and `window` are found while a net is built."""
