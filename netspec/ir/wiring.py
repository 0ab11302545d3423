"""What every layer says about its edges: the blobs it reads and makes, and where it says so."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator

from netspec.diagnostics import Span, SpecError, suggest
from netspec.grammar.ast import Element, Field, List, Reference, String
from netspec.ir.construction import Construction, where
from netspec.ir.expression import Poisoned
from netspec.ir.fields import Fields, Flag, NonNegativeReal, Text, Texts, many
from netspec.ir.flow import Blob, Frame, resolve
from netspec.ir.layer import Layer, Role
from netspec.ir.types import TensorType


class Param(Fields):
    """`param { … }`: how one weight of a layer is trained, and whom it is shared with."""

    name: Text | None = None
    """Layers whose `param` has the same name share the weight."""
    lr_mult: NonNegativeReal | None = None
    """Multiplies the learning rate; 0 freezes the weight."""
    decay_mult: NonNegativeReal | None = None
    """Multiplies weight_decay."""
    share_mode: Literal["STRICT", "PERMISSIVE"] = "STRICT"
    """Whether a shared weight must have the shape of the first one, or as many values only; each
    layer then reads them in a shape of its own."""


class Wiring(Fields):
    """The fields that every layer has."""

    bottom: Texts = ()
    """The blobs it reads; unless given, the current one; `[]` is none, for what needs none."""
    top: Texts = ()
    """The blobs it makes; unless given, one of its own name."""
    param: Annotated[tuple[Param, ...], BeforeValidator(many)] = ()
    """One per weight, in order."""
    loss_weight: Annotated[tuple[NonNegativeReal, ...], BeforeValidator(many)] = ()
    """The factor in the sum that is minimised, of a loss or of all of another top: one per top."""
    propagate_down: Annotated[tuple[Flag, ...], BeforeValidator(many)] = ()
    """One per bottom: `false` lets no gradient through to it; `true`, as if left out, wherever
    something before it is trained."""


UNWIRED = Wiring()


def key_of(item: Field | Element) -> str:
    return item.key if isinstance(item, Field) else item.word


def bottoms_of(
    c: Construction,
    layer: type[Layer],
    wiring: Wiring | None,
    element: Element,
    name: str,
    frame: Frame,
) -> list[Blob | None]:
    """The blobs a layer reads; None for one that does not exist (reported at the end)."""
    if wiring is None:
        raise Poisoned
    if layer.role in (Role.INPUT, Role.SOURCE):
        if wiring.bottom:
            span = spans_of(element, "bottom")[wiring.bottom[0]]
            what = "an input" if layer.role is Role.INPUT else layer.keyword
            raise SpecError(f"{what} reads nothing", span, code="flow")
        return []
    bottoms: list[Blob | None]
    if wiring.bottom:
        spans = spans_of(element, "bottom")
        bottoms = [_find(c, bottom, spans[bottom], name, frame) for bottom in wiring.bottom]
    elif 0 in layer.bottoms and (frame.flow.current is None or "bottom" in wiring.model_fields_set):
        bottoms = []
    elif frame.flow.current is None:
        raise SpecError(
            f"{layer.keyword} has nothing to read",
            where(element),
            code="flow",
            hint='declare an input above it: `input "data" { shape: 3x224x224 }`',
        )
    else:
        bottoms = [frame.flow.current]
    if layer.role in (Role.LOSS, Role.METRIC) and len(bottoms) == 1 and 2 in layer.bottoms:
        bottoms.append(label_blob(c, where(element)))
    if len(bottoms) not in layer.bottoms:
        few, most = layer.bottoms[0], layer.bottoms[-1]
        bound, limit = ("at least ", few) if len(bottoms) < few else ("at most ", most)
        wanted = f"{few}" if few == most else f"{bound}{limit}"
        message = f"{layer.keyword} reads {wanted} blob{'s' * (limit > 1)}, not {len(bottoms)}"
        hint = None if wiring.bottom else 'name them: `bottom: "a"  bottom: "b"`'
        raise SpecError(message, where(element), code="flow", hint=hint)
    first = bottoms[0] if bottoms else None
    if layer.role is Role.LOSS and first is not None and first in bottoms[1:2]:
        span = spans_of(element, "bottom").fallback
        message = f"`{name}` compares `{first.name}` with itself"
        hint = "a name means the innermost blob of that name" if frame.prefix else None
        raise SpecError(message, span, code="flow", hint=hint)
    return bottoms


class _Spans(dict[str, Span]):
    """Where each name of a field was written; `fallback` for one that was computed."""

    def __init__(self, fallback: Span) -> None:
        self.fallback = fallback

    def __missing__(self, name: str) -> Span:
        return self.fallback


def spans_of(element: Element, key: str) -> _Spans:
    """The places of the names that the fields `key` of a layer list."""
    spans = _Spans(where(element))
    for item in element.body.items if element.body else ():
        if isinstance(item, Field) and item.key == key:
            parts = item.value.elements if isinstance(item.value, List) else (item.value,)
            for part in parts:
                if isinstance(part, String | Reference):
                    spans[part.value if isinstance(part, String) else part.word] = part.span
                spans.fallback = part.span
    return spans


def _find(c: Construction, bottom: str, span: Span, name: str, frame: Frame) -> Blob | None:
    blob = c.blobs.find(bottom, frame.prefix)
    if blob is None and bottom == "label":
        return label_blob(c, span)
    if blob is None:
        c.missing.append((bottom, name, span, frame))
    return blob


def field_span(element: Element, key: str, index: int = 0) -> Span:
    """The place of a layer's field of this name, of the last if there are not so many."""
    found = [
        item.value.span if isinstance(item, Field) else item.word_span
        for item in (element.body.items if element.body else ())
        if isinstance(item, Field | Element) and key_of(item) == key
    ]
    return found[min(index, len(found) - 1)] if found else where(element)


def label_blob(c: Construction, span: Span) -> Blob:
    """The declared or implicit label: one integer a sample."""
    found = c.blobs.made.get("label")
    if found is None:
        c.label = TensorType((c.batch,), "int64")
        found = Blob("label", c.label, span, maker="label")
        c.blobs.add(found)
    return found


def report_missing(c: Construction) -> None:
    """Report bottoms that nothing makes, or that are made too late."""
    known = [*c.blobs.made, *c.blobs.aliases]
    for bottom, layer, span, frame in c.missing:
        later = c.blobs.find(bottom, frame.prefix)
        if later is not None:
            error = SpecError(
                f"`{layer}` reads `{bottom}` before it is made",
                span,
                code="flow",
                trail=[("it is made here", later.span)],
            )
        elif c.faulty and c.lost.holds(bottom):
            continue  # what would have made it is at fault itself
        elif resolve(bottom, frame.prefix, c.left_out):
            message = f"there is no blob `{bottom}` in phase {c.phase}: what makes it is left out"
            error = SpecError(message, span, code="flow")
        else:
            message = f"there is no blob `{bottom}`{suggest(bottom, known)}"
            error = SpecError(message, span, code="flow")
        c.report(error, frame)
