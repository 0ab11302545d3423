"""One layer of Caffe's to one of ours: `layer { type: "Convolution" … }` → `conv "conv1" { … }`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticUndefined

from netspec.caffe.dialect import DIALECTS, PLAIN, Items
from netspec.caffe.message import key
from netspec.caffe.parts import CaffeLayer, literal, lost_comments
from netspec.caffe.sources import Asked
from netspec.grammar import making
from netspec.grammar.ast import Comments, Element, Field, Item, List, Message, Number, Size, String
from netspec.grammar.making import NOWHERE
from netspec.ir.fields import Fields
from netspec.ir.layer import Layer, Phase, Role
from netspec.ir.reading import kind_of

Kinds = Mapping[str, type[Layer]]
"""Layers by every word that Caffe's files have for them."""

FILLERS = ("weight_filler", "bias_filler")


def kinds(layers: Mapping[str, type[Layer]]) -> Kinds:
    """The layers that Caffe has, too."""
    return {word: kind for kind in layers.values() if kind.caffe for word in kind.caffe.words}


@dataclass
class Flow:
    """The current blob of each phase, as `ir.build` will see it."""

    current: dict[Phase, str] = field(default_factory=dict)

    def follows(self, bottoms: Sequence[str], phases: Sequence[Phase]) -> bool:
        """Whether a layer that reads `bottoms` reads the current blob in each of the phases."""
        return all(list(bottoms) == [self.current.get(phase)] for phase in phases)

    def advance(self, kind: type[Layer], tops: Sequence[str], phases: Sequence[Phase]) -> None:
        """Move on behind a layer."""
        for phase in phases:
            begins = kind.role is Role.INPUT and phase not in self.current
            if tops and (kind.role is Role.HIDDEN or (begins and tops[0] != "label")):
                self.current[phase] = tops[0]


def translate(
    layer: CaffeLayer,
    kind: type[Layer],
    label: String | None,
    phases: Sequence[Phase],
    flow: Flow,
    asked: Asked,
    *,
    trained: bool,
) -> Element:
    """The layer in our words, without what goes without saying.

    `phases` are those that it is in, `label` its name; in a net that is not `trained`, which has
    no loss, what fills the weights does not matter, and ours do.
    """
    assert kind.caffe is not None
    dialect = DIALECTS.get(layer.word, PLAIN)
    said = _merged(_having(dialect.items(layer, kind.caffe.param), kind, asked), kind)
    own: list[Item] = [item for item in said if not _default(kind, item)]
    if trained:
        own += _unfilled(kind, own, layer)
    body = [*_edges(layer, kind, label, phases, flow), *own, *_training(layer, kind)]
    if len(phases) == 1:
        body.insert(0, making.only(phases[0]))
    tidied = tuple(_tidy(item, kind) for item in body if not _usual(item, kind))
    flow.advance(kind, layer.tops or ([label.value] if label else []), phases)
    element = layer.element
    head = element.body.head if element.body else None
    above = (
        *element.comments.before,
        *([head] if head else []),
        *lost_comments(layer.items, tidied),
    )
    comments = Comments(above, element.comments.after)
    message = (
        Message(tidied, NOWHERE, element.body.tail if element.body else ()) if tidied else None
    )
    return Element(kind.keyword, label, message, element.span, layer.span, comments)


def _edges(
    layer: CaffeLayer,
    kind: type[Layer],
    label: String | None,
    phases: Sequence[Phase],
    flow: Flow,
) -> list[Item]:
    """The bottoms and tops that are not those it would have anyway."""
    bottoms = list(layer.bottoms)
    asks = kind.role in (Role.LOSS, Role.METRIC) and bottoms[1:] == ["label"]
    unsaid = flow.follows(bottoms[:1] if asks else bottoms, phases) or kind.role is Role.INPUT
    own = label is not None and layer.tops == (label.value,)
    written = [*([] if unsaid else ["bottom"]), *([] if own else ["top"])]
    return [item for key in written for item in layer.fields if item.key == key]


def _training(layer: CaffeLayer, kind: type[Layer]) -> list[Item]:
    """`param`, `loss_weight` and `propagate_down`."""
    blobs = [_param(i) for i in layer.items if key(i) == "param"]
    params = list(DIALECTS.get(layer.word, PLAIN).params(blobs, layer))
    while params and not _says(params[-1]):
        params.pop()
    losses = [i for i in layer.fields if i.key == "loss_weight"]
    usual = 1 if kind.role is Role.LOSS else 0
    if all(literal(item.value) == usual for item in losses):
        losses = []
    others = [i for i in layer.fields if i.key == "propagate_down"]
    return [*params, *losses, *others]


def _param(item: Field | Element) -> Field | Element:
    """A `param` without its name if that is empty, which is none to Caffe, too."""
    if not isinstance(item, Element) or item.body is None:
        return item
    named = [i for i in item.body.items if isinstance(i, Field) and i.key == "name"]
    if all(literal(i.value) for i in named):
        return item
    return replace(
        item, body=replace(item.body, items=tuple(i for i in item.body.items if i not in named))
    )


def _says(param: Field | Element) -> bool:
    """Whether a `param` says anything but the usual."""
    body = param.body if isinstance(param, Element) else None
    usual = ("lr_mult", "decay_mult")
    items = body.items if body else ()
    return not all(isinstance(i, Field) and i.key in usual and literal(i.value) == 1 for i in items)


def _default(model: type[Fields], item: Item) -> bool:
    """Whether a field holds what it would hold anyway."""
    if not isinstance(item, Field) or item.key not in model.model_fields:
        return False
    default: Any = model.model_fields[item.key].default
    if default is PydanticUndefined:
        return False
    given = literal(item.value)
    if isinstance(default, tuple):
        return default == (given,) and item.key not in ("kernel_size",)
    if isinstance(given, bool) or isinstance(default, bool):
        return given is default
    return given is not None and given == default


def _having(items: Items, kind: type[Layer], asked: Asked) -> Items:
    """The fields that our layer has; a lenient reading warns of the others."""
    strange = [i for i in items if key(i) not in kind.model_fields] if asked.lenient else []
    for item in strange:
        asked.warn(f"`{key(item)}` is left out: {kind.keyword} has no such field", item.span)
    return [item for item in items if item not in strange]


def _merged(items: Items, model: type[Fields]) -> Items:
    """Numbers of one field, written one by one, as a size: `pad: 1 pad: 2` → `pad: [1, 2]`."""
    merged: list[Field | Element] = []
    seen: dict[str, int] = {}
    for item in items:
        at = seen.get(key(item))
        if at is None or not isinstance(item, Field) or not _repeated(model, item.key):
            seen[key(item)] = len(merged)
            merged.append(item)
            continue
        there = merged[at]
        assert isinstance(there, Field)
        both = [*_elements(there), *_elements(item)]
        whole = [e.value for e in both if isinstance(e, Number) and isinstance(e.value, int)]
        span = there.value.span
        sized = len(whole) == len(both) and making.is_size(whole)
        value = Size(tuple(whole), span) if sized else List(tuple(both), span)
        merged[at] = replace(there, value=value)
    return merged


def _repeated(model: type[Fields], key: str) -> bool:
    return key in model.model_fields and kind_of(model, key).repeated


def _elements(item: Field) -> Sequence[Any]:
    match item.value:
        case List():
            return item.value.elements
        case Size():
            return [Number(str(n), n, item.value.span) for n in item.value.extent]
    return (item.value,)


def _unfilled(kind: type[Layer], items: Items | list[Item], layer: CaffeLayer) -> list[Item]:
    """What Caffe fills with zeros where nothing is said, if ours would not."""
    said = {key(item) for item in items if isinstance(item, Field | Element)}
    zero = making.field("type", making.word("constant", layer.span))
    fields = kind.model_fields
    return [
        making.message(key, [zero], layer.span)
        for key in FILLERS
        if key in fields and key not in said and fields[key].default.type != "constant"
    ]


def _usual(item: Item, model: type[Fields]) -> bool:
    """Whether a sub-message says what would hold anyway: `bias_filler { type: "constant" }`."""
    if not isinstance(item, Element) or item.word not in model.model_fields or item.body is None:
        return False
    inner = kind_of(model, item.word).message
    default: Any = model.model_fields[item.word].default
    said = {i.key: literal(i.value) for i in item.body.items if isinstance(i, Field)}
    if inner is None or not isinstance(default, inner) or len(said) < len(item.body.items):
        return False
    try:
        return bool(inner.model_validate(said) == default)
    except ValidationError:
        return False


def _tidy(item: Item, model: type[Fields]) -> Item:
    """Bodies that fit on a line, no defaults, and words where our fields have words."""
    if isinstance(item, Element) and item.body is not None:
        inner = kind_of(model, item.word).message if item.word in model.model_fields else None
        items = tuple(_tidy(i, inner or Fields) for i in item.body.items)
        if inner is not None:
            items = tuple(i for i in items if not _default(inner, i)) or items[:1]
        return replace(item, body=replace(item.body, items=items, span=NOWHERE))
    if isinstance(item, Field) and item.key in model.model_fields:
        return making.worded(item, kind_of(model, item.key).words)
    return item
