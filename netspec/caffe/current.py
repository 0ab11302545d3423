"""What Caffe does to layers in its current form before it reads them.

    layer { type: "BatchNorm" param { lr_mult: 1 } param {} param {} }
    layer { type: "BatchNorm" param { lr_mult: 0 decay_mult: 0 } … three of them }

(UpgradeNetBatchNorm in util/upgrade_proto.cpp, LayerSetUp in layers/batch_norm_layer.cpp.)
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, TypeGuard

from netspec.caffe.faults import Faults
from netspec.caffe.message import (
    body,
    key,
    number,
    numbers,
    text,
    type_of,
    with_items,
)
from netspec.caffe.schema import v1_types
from netspec.caffe.v1 import TRANSFORM_BLOCKS, TRANSFORM_FIELDS
from netspec.diagnostics import Span, SpecError
from netspec.grammar import making
from netspec.grammar.ast import Element, Field, Item, Number, Reference, String

_STATISTICS: Final = 3
"""BatchNorm's blobs: mean, variance, and their common factor."""

_FIXED: Final = ("lr_mult", "decay_mult")


def settle(layer: Element, faults: Faults) -> Element:
    """A `layer` entry as Caffe reads it, without what it passes over."""
    new: list[Item] = []
    untyped: Span | None = layer.word_span
    for item in body(layer).items:
        if key(item) == "type" and isinstance(item, Field):
            item = _quoted(item, faults)
            untyped = item.value.span if text(item.value) == "" else None
        elif key(item) in TRANSFORM_BLOCKS.values() and isinstance(item, Element):
            item = _without_transform(item, faults)
        new.append(item)
    if untyped is not None:
        faults.error(SpecError("a layer has no `type`", untyped, code="field"))
    settled = with_items(layer, new)
    return _frozen(settled, faults) if type_of(settled) == "BatchNorm" else settled


def _quoted(item: Field, faults: Faults) -> Field:
    """`type: CONVOLUTION` or `type: Convolution` → `type: "Convolution"`."""
    if not isinstance(item.value, Reference):
        return item
    said = item.value.word
    name = v1_types().get(said, said)
    message = f"the type of a `layer` is a quoted text, not `{said}`"
    hint = f'write `type: "{name}"`'
    faults.refuse(SpecError(message, item.value.span, code="value", hint=hint))
    return replace(item, value=String(name, item.value.span))


def _without_transform(block: Element, faults: Faults) -> Element:
    """`data_param { scale: … }` meant something in V1 alone."""
    kept: list[Item] = []
    for item in body(block).items:
        if key(item) not in TRANSFORM_FIELDS:
            kept.append(item)
            continue
        message = f"Caffe passes over `{key(item)}` in `{block.word}` of a `layer`"
        hint = f"it takes effect in `transform_param {{ {key(item)}: … }}`"
        faults.warn(SpecError(message, item.span, code="field", hint=hint))
    return with_items(block, kept)


def _frozen(layer: Element, faults: Faults) -> Element:
    """BatchNorm's statistics are no subject of the solver: their multipliers are 0."""
    specs = [item for item in body(layer).items if _is_spec(item)]
    repaired = len(specs) == _STATISTICS
    for spec in specs:
        declared = numbers(body(spec), "lr_mult")
        lr_mult = declared[0] if declared else 1
        if repaired and declared and lr_mult != 0:
            message = f"Caffe sets the `lr_mult` of a BatchNorm's statistics to 0, not {lr_mult:g}"
            faults.warn(SpecError(message, spec.span, code="value"))
        elif not repaired and lr_mult != 0:
            message = f"the statistics of a BatchNorm have `lr_mult` 0, not {lr_mult:g}"
            hint = None if declared else "write `lr_mult: 0`: left out, it is 1"
            faults.error(SpecError(message, spec.span, code="value", hint=hint))
    if not repaired:
        return layer
    return with_items(layer, (_fixed(i) if _is_spec(i) else i for i in body(layer).items))


def _is_spec(item: Item) -> TypeGuard[Element]:
    return isinstance(item, Element) and item.word == "param"


def _fixed(spec: Element) -> Element:
    """`param { name … }` with both multipliers 0."""
    new: list[Item] = []
    missing = list(_FIXED)
    for item in body(spec).items:
        if key(item) in missing and isinstance(item, Field):
            missing.remove(key(item))
            zero = Number("0", 0, item.value.span)
            item = item if number(item.value) == 0 else replace(item, value=zero)
        new.append(item)
    new += [making.field(name, Number("0", 0, spec.span), spec.span) for name in missing]
    return with_items(spec, new)
