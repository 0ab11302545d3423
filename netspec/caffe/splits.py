"""A blob that is used twice goes through a Split layer (InsertSplits in util/insert_splits.cpp).

layer { name: "conv" top: "x" }  layer { bottom: "x" … }  layer { bottom: "x" … }
layer { name: "conv" top: "x" }
layer { name: "x_conv_0_split" type: "Split" bottom: "x"
        top: "x_conv_0_split_0" top: "x_conv_0_split_1" }
layer { bottom: "x_conv_0_split_0" … }  layer { bottom: "x_conv_0_split_1" … }
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from netspec.caffe.flow import check_flow
from netspec.caffe.message import (
    body,
    key,
    name_of,
    new_element,
    single,
    text,
    texts,
    with_items,
)
from netspec.caffe.wiring import Layer, Top, Wiring, layers_of, split_name
from netspec.diagnostics import Diagnostics, Span
from netspec.grammar import making
from netspec.grammar.ast import Element, Field, Item, Message, Number, String


def insert_splits(
    net: Message, *, diagnostics: Diagnostics, whole: Message | None = None
) -> Message:
    """The net, in current form and filtered, with the layers that Caffe puts into it.

    A loss counts as a use of its blob, and takes the first top. As in Caffe, a layer with a loss
    that is split loses all its `loss_weight`. Reports what `check_flow` does.
    """
    wiring = check_flow(net, diagnostics=diagnostics, whole=whole)
    layers = iter(enumerate(wiring.layers))
    taken: Counter[Top] = Counter()
    items: list[Item] = []
    for item in net.items:
        if isinstance(item, Element) and item.word == "layer":
            items.extend(_with_splits(*next(layers), wiring, taken))
        else:
            items.append(item)
    return replace(net, items=tuple(items))


def tops_of(split: Message) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Each layer of a net with its splits, and the blobs that it writes.

    Caffe's "Memory required for data" is 4 bytes for each element of all these blobs: those of
    splits and those written in place again and again, a scalar as one. Losses that leave out their
    `top` have one nonetheless.
    """
    return tuple(
        (name_of(layer), tuple(name for name, _ in texts(body(layer), "top")))
        for layer in layers_of(split)
    )


def outputs_of(split: Message) -> tuple[str, ...]:
    """The blobs that no layer of a net with its splits reads, in alphabetical order."""
    left: set[str] = set()
    for layer in layers_of(split):
        left -= {name for name, _ in texts(body(layer), "bottom")}
        left |= {name for name, _ in texts(body(layer), "top")}
    return tuple(sorted(left))


def _with_splits(at: int, layer: Layer, wiring: Wiring, taken: Counter[Top]) -> Iterator[Element]:
    """A layer that reads from splits, and the splits of its own tops; `taken` counts reads."""
    names: dict[int, str] = {}
    for index, bottom in enumerate(layer.bottoms):
        source = bottom.source
        if source is not None and wiring.uses(source) > 1:
            name = split_name(bottom.name, wiring.layers[source.layer].name, source.number)
            names[index] = f"{name}_{taken[source]}"
            taken[source] += 1
    split = [index for index in range(len(layer.tops)) if wiring.uses(Top(at, index)) > 1]
    lost = [Top(at, index) for index in split if Top(at, index) in wiring.losses]
    taken.update(lost)
    yield _rewritten(layer.element, names, without_loss=bool(lost))
    for index in split:
        yield _split(layer, Top(at, index), wiring)


def _rewritten(layer: Element, names: dict[int, str], *, without_loss: bool) -> Element:
    """The layer with other names of some bottoms."""
    if not names and not without_loss:
        return layer
    items: list[Item] = []
    index = 0
    for item in body(layer).items:
        if key(item) == "bottom" and isinstance(item, Field):
            for one in single(item):
                if text(one.value) is not None:
                    if index in names:
                        one = replace(one, value=String(names[index], one.value.span))
                    index += 1
                items.append(one)
        elif not (without_loss and key(item) == "loss_weight"):
            items.append(item)
    return with_items(layer, items)


def _split(layer: Layer, top: Top, wiring: Wiring) -> Element:
    blob, span = layer.tops[top.number]
    name = split_name(blob, layer.name, top.number)
    uses = wiring.uses(top)
    items = [
        _said("name", name, span),
        _said("type", "Split", span),
        _said("bottom", blob, span),
        *(_said("top", f"{name}_{use}", span) for use in range(uses)),
    ]
    if (loss := wiring.losses.get(top)) is not None:
        zeros = [Number("0", 0, span)] * (uses - 1)
        items += [making.field("loss_weight", weight, weight.span) for weight in (loss, *zeros)]
    return new_element("layer", items, span)


def _said(name: str, said: str, span: Span) -> Field:
    return making.field(name, String(said, span), span)
