"""V0's `padding` layers become the pad of what reads them (UpgradeV0PaddingLayers).

layers { layer { type: "padding" pad: 2 } bottom: "x" top: "padded" }
layers { layer { type: "conv" kernelsize: 5 } bottom: "padded" top: "y" }
layers { layer { type: "conv" kernelsize: 5 pad: 2 } bottom: "x" top: "y" }
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from netspec.caffe.faults import Faults
from netspec.caffe.message import Items, body, key, messages, texts, with_items
from netspec.diagnostics import Span, SpecError
from netspec.grammar import making
from netspec.grammar.ast import Element, Field, Item, Number, String

_PADDING: Final = "padding"
_PADDED: Final = {"conv", "pool"}


def fold_padding(items: Items, faults: Faults) -> Items:
    """`padding → conv` becomes one convolution with that pad; likewise for pooling.

    The pad of the `padding` layer replaces the one of its reader, as in UpgradeV0PaddingLayers.
    """
    paddings: dict[str, Element] = {}
    kept: list[Item] = []
    for item in items:
        if key(item) != "layers" or not isinstance(item, Element):
            kept.append(item)
            continue
        is_padding = v0_type(item)[0] == _PADDING
        bottoms = [name for name, _ in texts(body(item), "bottom")]
        read = [paddings[name] for name in bottoms if name in paddings]
        folded = _padded(item, len(bottoms), read[0], faults) if read else item
        if not is_padding:
            kept.append(folded)
        for name, _ in texts(body(item), "top"):
            if is_padding:
                paddings[name] = item
            else:
                paddings.pop(name, None)
    return tuple(kept)


def v0_type(layer: Element) -> tuple[str, Span]:
    """V0's type of a layer and where it stands; '' if there is none."""
    for inner in messages(body(layer), "layer"):
        for said, span in texts(inner, "type"):
            return said, span
    return "", layer.word_span


def _padded(layer: Element, bottoms: int, padding: Element, faults: Faults) -> Element:
    """The layer with the pad of the `padding` layer that it reads, reading what that one reads."""
    kind, span = v0_type(layer)
    if kind not in _PADDED:
        message = f"a `padding` layer pads for `conv` and `pool`; this layer is `{kind}`"
        faults.error(SpecError(message, span, code="flow"))
        return layer
    if bottoms != 1:
        message = f"a layer that reads a `padding` layer has one bottom, this one {bottoms}"
        faults.error(SpecError(message, layer.word_span, code="flow"))
        return layer
    above = texts(body(padding), "bottom")
    tops = texts(body(padding), "top")
    if len(above) != 1 or len(tops) != 1:
        message = "a `padding` layer has one bottom and one top"
        numbers = f"this one has {len(above)} and {len(tops)}"
        faults.error(SpecError(f"{message}, {numbers}", padding.word_span, code="flow"))
        return layer
    (source,) = above
    return with_items(layer, _repadded(body(layer).items, source, padding))


def _repadded(items: Items, source: tuple[str, Span], padding: Element) -> list[Item]:
    """The items of a layer with the bottom `source` and the pad of `padding`."""
    pads = (p for inner in messages(body(padding), "layer") for p in inner.fields("pad"))
    pad = next(pads, None) or making.field("pad", Number("0", 0, padding.span), padding.word_span)
    new: list[Item] = []
    for item in items:
        if key(item) == "bottom" and isinstance(item, Field):
            item = replace(item, value=String(*source))
        elif key(item) == "layer" and isinstance(item, Element):
            others = (inner for inner in body(item).items if key(inner) != "pad")
            item = with_items(item, (*others, pad))
        new.append(item)
    return new
