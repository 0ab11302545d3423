"""Which layer of a filtered net gives each bottom: `wire(net)`.

A blob's name may be written several times, in place; each time makes a `Top` of its own, and a
bottom reads the last one before it (the first loop of InsertSplits in util/insert_splits.cpp).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from netspec.caffe.message import body, name_of, number, texts, values
from netspec.diagnostics import MAX_FOUND, Diagnostics, Span, SpecError, suggest
from netspec.grammar.ast import Element, Expr, Message

_NEAR = 2000
"""Blobs looked at for a did-you-mean, the last ones before the fault."""


class Top(NamedTuple):
    """One writing of a blob, as Caffe counts them."""

    layer: int
    number: int


@dataclass(frozen=True, slots=True)
class Bottom:
    """A blob that a layer reads."""

    name: str
    span: Span
    source: Top | None
    """Where it comes from; None if from nowhere."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer and its edges."""

    element: Element
    name: str
    bottoms: tuple[Bottom, ...]
    tops: tuple[tuple[str, Span], ...]
    """The name of each blob that it writes, and where that stands."""


@dataclass(frozen=True, slots=True)
class Wiring:
    """The layers of a net, who reads each top, and which tops are losses."""

    layers: tuple[Layer, ...]
    readers: Mapping[Top, list[int]]
    """The layers that read a top, one more than once if it does so."""
    losses: Mapping[Top, Expr]
    """The `loss_weight` of the tops that have one, not 0, spelled out."""

    def uses(self, top: Top) -> int:
        """How often a top is read, a loss counted as one reader."""
        return len(self.readers.get(top, ())) + (top in self.losses)


def split_name(blob: str, layer: str, number: int) -> str:
    """What Caffe calls the Split of a layer's top; its own tops have `_0`, `_1`, … after it."""
    return f"{blob}_{layer}_{number}_split"


def layers_of(net: Message) -> Iterator[Element]:
    """The `layer` entries of a net."""
    return (item for item in net.items if isinstance(item, Element) and item.word == "layer")


def wire(net: Message, *, diagnostics: Diagnostics, whole: Message | None = None) -> Wiring:
    """The wiring of a net in current form; a bottom that comes from nowhere is an error.

    `whole` is the net before its layers were filtered: with it, the error says if the net has the
    blob in another phase, level or stage.
    """
    layers: list[Layer] = []
    readers: dict[Top, list[int]] = {}
    losses: dict[Top, Expr] = {}
    last: dict[str, Top] = {}
    made: list[tuple[str, Span]] = []
    unknown: list[_Unknown] = []
    for at, element in enumerate(layers_of(net)):
        fields = body(element)
        bottoms = tuple(Bottom(name, s, last.get(name)) for name, s in texts(fields, "bottom"))
        for bottom in bottoms:
            if bottom.source is None:
                unknown.append(_Unknown(bottom, name_of(element), len(made)))
            else:
                readers.setdefault(bottom.source, []).append(at)
        tops = tuple(texts(fields, "top"))
        last.update((name, Top(at, number)) for number, (name, _) in enumerate(tops))
        weights = zip(tops, values(fields, "loss_weight"), strict=False)
        losses.update((last[name], weight) for (name, _), weight in weights if number(weight))
        made.extend(tops)
        layers.append(Layer(element, name_of(element), bottoms, tops))
    _report(unknown, made, whole, diagnostics)
    return Wiring(tuple(layers), readers, losses)


class _Unknown(NamedTuple):
    """A bottom that comes from nowhere, of which layer, and how many tops stand before it."""

    bottom: Bottom
    layer: str
    before: int


def _report(
    unknown: list[_Unknown],
    made: list[tuple[str, Span]],
    whole: Message | None,
    diagnostics: Diagnostics,
) -> None:
    if not unknown:
        return
    places = dict(reversed(made))
    everywhere = list(layers_of(whole)) if whole else []
    hidden = dict(top for layer in everywhere for top in texts(body(layer), "top"))
    for bottom, layer, before in unknown[:MAX_FOUND]:
        trail = []
        if bottom.name in places:
            message = f"`{layer}` reads `{bottom.name}` before it is made"
            trail = [("it is made here", places[bottom.name])]
        elif bottom.name in hidden:
            message = f"there is no blob `{bottom.name}` in this state: what makes it is left out"
            trail = [("it is made here", hidden[bottom.name])]
        else:
            near = (name for name, _ in reversed(made[max(0, before - _NEAR) : before]))
            message = f"there is no blob `{bottom.name}`{suggest(bottom.name, near)}"
        diagnostics.error(SpecError(message, bottom.span, code="flow", trail=trail))
