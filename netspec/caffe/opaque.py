"""Layers that are counted by their shapes alone: Python's, and those of types nobody here knows."""

from __future__ import annotations

from collections.abc import Sequence

from netspec.caffe.parts import CaffeLayer, literal, lost_comments
from netspec.caffe.sources import Asked
from netspec.grammar import making
from netspec.grammar.ast import Comments, Element, Item, List, Message, String
from netspec.grammar.making import NOWHERE
from netspec.ir.layer import Phase
from netspec.ir.types import Shape


def is_shaped(layer: CaffeLayer, asked: Asked) -> bool:
    """Whether the shapes of its tops are told, or are those of its bottoms."""
    return not layer.tops or _in_place(layer) or _shapes(layer, asked) is not None


def opaque(
    layer: CaffeLayer, label: String | None, phases: Sequence[Phase], asked: Asked
) -> Element:
    """`opaque "proposal" { type: "Python"  shape { dim: 300  dim: 5 } }`; SINK without a top."""
    span = layer.span
    items: list[Item] = []
    if len(phases) == 1:
        items.append(making.only(phases[0]))
    edges = [f for f in layer.fields if f.key in ("bottom", "top")]
    if not layer.bottoms:
        edges.insert(0, making.field("bottom", List((), NOWHERE), span))
    keyword = "opaque" if layer.tops else "silence"
    if layer.tops:
        items.append(making.field("type", making.scalar(layer.word, span), span))
        shapes = None if _in_place(layer) else _shapes(layer, asked)
        for shape in shapes or ():
            dims = [making.field("dim", making.number(n, span), span) for n in shape]
            items.append(making.message("shape", dims, span))
        items += [f for f in layer.fields if f.key == "loss_weight"]
    body = Message((*edges, *items), NOWHERE)
    above = (*layer.element.comments.before, *lost_comments(layer.items, body.items))
    comments = Comments(above, layer.element.comments.after)
    return Element(keyword, label, body, layer.element.span, span, comments)


def _in_place(layer: CaffeLayer) -> bool:
    return bool(layer.tops) and layer.tops == layer.bottoms[: len(layer.tops)]


def _shapes(layer: CaffeLayer, asked: Asked) -> list[Shape] | None:
    """The shape of each top, as the command line gives it; that of a loss is one number."""
    weights = [literal(f.value) for f in layer.fields if f.key == "loss_weight"]
    shapes = []
    for i, top in enumerate(layer.tops):
        shape = asked.shape(top)
        if shape is None and i < len(weights) and weights[i]:
            shape = ()
        if shape is None:
            return None
        shapes.append(shape)
    return shapes
