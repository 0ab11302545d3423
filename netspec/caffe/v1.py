"""Caffe's form of 2014 to its current one (UpgradeV1Net in util/upgrade_proto.cpp).

layers { name: "conv1" type: CONVOLUTION blobs_lr: 1 blobs_lr: 2 weight_decay: 1 }
layer { name: "conv1" type: "Convolution" param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 } }
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Final

from netspec.caffe.faults import Faults
from netspec.caffe.message import (
    Items,
    body,
    key,
    new_element,
    renamed,
    single,
    text,
    type_of,
    with_items,
)
from netspec.caffe.schema import layer_types, v1_types
from netspec.diagnostics import SpecError, suggest
from netspec.grammar.ast import Element, Expr, Field, Item, List, Reference, String

TRANSFORM_BLOCKS: Final[Mapping[str, str]] = {
    "DATA": "data_param",
    "IMAGE_DATA": "image_data_param",
    "WINDOW_DATA": "window_data_param",
}
"""V1's data layers, and the block in which each once had what is in `transform_param` now."""

TRANSFORM_FIELDS: Final = ("scale", "mean_file", "crop_size", "mirror")

PARAM_FIELDS: Final[Mapping[str, str]] = {
    "param": "name",
    "blob_share_mode": "share_mode",
    "blobs_lr": "lr_mult",
    "weight_decay": "decay_mult",
}
"""V1's lists, of one value for each blob → the field of the current `param { … }`."""


def to_current(layer: Element, faults: Faults) -> Element:
    """A `layers` entry as a `layer` entry; its blocks are called the same in both forms."""
    items = _with_transform(body(layer).items, TRANSFORM_BLOCKS.get(type_of(layer)))
    items = _with_params(items)
    new = [_with_type(item, faults) if key(item) == "type" else item for item in items]
    return with_items(replace(layer, word="layer"), new)


def _with_transform(items: Items, block: str | None) -> Items:
    """`data_param { scale }` → `transform_param { scale }`, which it overrides."""
    moved: list[Item] = []
    kept: list[Item] = []
    for item in items:
        if key(item) == block and isinstance(item, Element):
            inner = body(item).items
            moved += [field for field in inner if key(field) in TRANSFORM_FIELDS]
            item = with_items(item, (f for f in inner if key(f) not in TRANSFORM_FIELDS))
        kept.append(item)
    if not moved:
        return items
    names = {key(field) for field in moved}
    for at, item in enumerate(kept):
        if key(item) == "transform_param" and isinstance(item, Element):
            others = [field for field in body(item).items if key(field) not in names]
            kept[at] = with_items(item, (*others, *moved))
            return tuple(kept)
    at = next(at for at, item in enumerate(kept) if key(item) == block)
    kept.insert(at + 1, new_element("transform_param", moved, moved[0].span))
    return tuple(kept)


def _with_params(items: Items) -> Items:
    """The i-th values of V1's lists become the fields of the i-th `param`."""
    specs: list[list[Item]] = []
    for name, new_name in PARAM_FIELDS.items():
        listed = [item for item in items if key(item) == name and isinstance(item, Field)]
        for at, field in enumerate(one for item in listed for one in single(item)):
            if at == len(specs):
                specs.append([])
            specs[at].append(renamed(field, new_name))
    if not specs:
        return items
    kept: list[Item] = []
    first = next(i for i in items if key(i) in PARAM_FIELDS and isinstance(i, Field))
    for item in items:
        if item is first:
            kept += [new_element("param", spec, spec[0].span) for spec in specs]
        elif key(item) not in PARAM_FIELDS or not isinstance(item, Field):
            kept.append(item)
    return tuple(kept)


def _with_type(item: Item, faults: Faults) -> Item:
    if not isinstance(item, Field):
        return item
    match item.value:
        case Reference() as value if value.word in v1_types():
            name = v1_types()[value.word]
        case Reference(path=("NONE",)):
            name = ""
        case Reference() | String() as value:
            name = _foreign_type(value, faults)
        case value:
            faults.error(_no_type(value))
            return item
    return replace(item, value=String(name, item.value.span))


@cache
def _spellings() -> Mapping[str, str]:
    """Every type of BVLC's by its letters: forks gave V1 words to types that came later."""
    names = [name for name, kind in layer_types().items() if kind.fork is None]
    return {name.lower(): name for name in names}


def _foreign_type(value: Reference | String, faults: Faults) -> str:
    """The current type that an entry of `layers` names as V1 does not."""
    said = text(value) or ""
    name = _spellings().get(said.replace("_", "").lower())
    hint: str | None = f'write each layer in the current form: `layer {{ type: "{name}" … }}`'
    if isinstance(value, String):
        message = f"the type of a layer in `layers` is a word without quotes, not `{said}`"
        words = (word for word, current in v1_types().items() if current == name)
        hint = next((f"write `type: {word}`" for word in words), hint)
    else:
        message = f"there is no V1 layer type `{said}`{'' if name else suggest(said, v1_types())}"
    hint = hint if name else None
    faults.refuse(SpecError(message, value.span, code="value", hint=hint))
    parts = said.split("_") if isinstance(value, Reference) else []
    return name or "".join(part[:1].upper() + part[1:].lower() for part in parts) or said


def _no_type(value: Expr | List) -> SpecError:
    message = "the type of a layer in `layers` is a word, such as `CONVOLUTION`"
    return SpecError(message, value.span, code="value")
