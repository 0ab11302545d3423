"""Places one layer in the net: its fields, its bottoms and tops, its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Annotated

from pydantic import BeforeValidator

from netspec.diagnostics import Span, SpecError, suggest
from netspec.grammar.ast import Element, Field, List, Reference, String
from netspec.ir.construction import Construction, where
from netspec.ir.expression import Poisoned
from netspec.ir.fields import Fields, Flag, NonNegativeReal, Text, Texts, many
from netspec.ir.flow import Blob, Frame, chain
from netspec.ir.layer import MAX_NUMEL, Layer, Role, ShapeError
from netspec.ir.net import Node, Parameter, Place
from netspec.ir.scope import Lookup
from netspec.ir.types import Shape, TensorType, size
from netspec.ir.validate import Model, validate

MAX_AXES = 32
"""Axes of one tensor, as in Caffe."""

_RULES = ("include", "exclude")


class Param(Fields):
    """`param { … }`: how one weight of a layer is trained, and whom it is shared with."""

    name: Text | None = None
    """Layers whose `param` has the same name share the weight."""
    lr_mult: NonNegativeReal | None = None
    """Multiplies the learning rate; 0 freezes the weight."""
    decay_mult: NonNegativeReal | None = None
    """Multiplies weight_decay."""


class Wiring(Fields):
    """The fields that every layer has."""

    bottom: Texts = ()
    """The blobs it reads; unless given, the current one."""
    top: Texts = ()
    """The blobs it makes; unless given, one of its own name."""
    param: tuple[Param, ...] = ()
    """One per weight, in order."""
    loss_weight: NonNegativeReal | None = None
    """The factor of a loss in the sum that is minimised."""
    propagate_down: Annotated[tuple[Flag, ...], BeforeValidator(many)] = ()
    """Accepted as in Caffe; the compiler finds out itself where gradients must go."""


_UNWIRED = Wiring()


def place(c: Construction, layer: type[Layer], element: Element, name: str, frame: Frame) -> None:
    """Add the node that `element` describes; after a fault, poison what it would have made."""
    items = _fields(c, element, frame)
    made: list[Blob] = []
    wiring: Wiring | None = None
    try:
        wiring = _wiring(c, layer, element, items, frame)
        settings = [i for i in items if _key(i) not in Wiring.model_fields]
        instance = _validated(c, layer, settings, layer, element, frame)
        bottoms = _bottoms(c, layer, wiring, element, name, frame)
        if instance is not None and wiring is not None and None not in bottoms:
            known = [b for b in bottoms if b is not None]
            made = add_node(c, instance, known, wiring, element, name, frame)
    except SpecError as error:
        c.report(error, frame)
    except Poisoned:
        pass
    _advance(c, layer, wiring, made, element, name, frame)


def _advance(
    c: Construction,
    layer: type[Layer],
    wiring: Wiring | None,
    made: Sequence[Blob],
    element: Element,
    name: str,
    frame: Frame,
) -> None:
    """Move the flow on; a layer that failed leaves poison where its tops would be."""
    tops = made or _poison(c, wiring, element, name, frame)
    if layer.role is Role.HIDDEN:
        frame.flow.current = tops[0]
    elif layer.role is Role.INPUT and frame.flow.current is None and name != "label":
        frame.flow.current = tops[0]


def add_node(
    c: Construction,
    layer: Layer,
    bottoms: Sequence[Blob],
    wiring: Wiring,
    element: Element,
    name: str,
    frame: Frame,
) -> list[Blob]:
    """Infer, make the tops and the weights, and append the node."""
    span = where(element)
    given = [b.type for b in bottoms if b.type is not None]
    if len(given) != len(bottoms):
        raise Poisoned
    if wiring.top:
        layer = layer.with_tops(len(wiring.top))
    types = _infer(c, layer, given, bottoms, element, name)
    tops = _tops(c, layer, wiring, bottoms, types, element, name, frame)
    parameters = _parameters(c, layer, given, wiring, element, name, frame)
    loss_weight = 0.0
    if layer.role is Role.LOSS:
        loss_weight = 1.0 if wiring.loss_weight is None else wiring.loss_weight
    elif wiring.loss_weight is not None:
        raise SpecError(f"{layer.keyword} is no loss: it has no loss_weight", span, code="field")
    for lint in layer.lints(given):
        c.warn(f"{name}: {lint}", span, frame)
    c.nodes.append(
        Node.model_construct(
            name=name,
            layer=layer,
            bottoms=tuple(b.name for b in bottoms),
            tops=tuple(t.name for t in tops),
            bottom_types=tuple(given),
            top_types=types,
            parameters=parameters,
            statistics=layer.statistics(given),
            loss_weight=loss_weight,
        )
    )
    c.places.append(Place(span, frame.trail))
    for bottom in bottoms:
        bottom.reads += 1
    return tops


def _key(item: Field | Element) -> str:
    return item.key if isinstance(item, Field) else item.word


def _fields(c: Construction, element: Element, frame: Frame) -> list[Field | Element]:
    items: list[Field | Element] = []
    for item in element.body.items if element.body else ():
        if not isinstance(item, Field | Element):
            c.report(SpecError("a layer holds fields only", item.span, code="field"), frame)
        elif not (isinstance(item, Element) and item.word in _RULES):
            items.append(item)
    return items


def _wiring(
    c: Construction,
    layer: type[Layer],
    element: Element,
    items: Sequence[Field | Element],
    frame: Frame,
) -> Wiring | None:
    own = [i for i in items if _key(i) in Wiring.model_fields]
    if not own:
        return _UNWIRED
    try:
        return _validated(c, Wiring, own, layer, element, frame)
    except Poisoned:
        return None


def _validated(
    c: Construction,
    model: type[Model],
    items: Sequence[Field | Element],
    layer: type[Layer],
    element: Element,
    frame: Frame,
) -> Model | None:
    return validate(
        model,
        items,
        Lookup(frame.scope, frame.flow.type),
        what=layer.keyword,
        span=where(element),
        report=lambda error: c.report(error, frame),
        also=(*Wiring.model_fields, *_RULES),
    )


def _bottoms(
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
    if layer.role is Role.INPUT:
        if wiring.bottom:
            span = _spans(element, "bottom")[wiring.bottom[0]]
            raise SpecError("an input reads nothing", span, code="flow")
        return []
    bottoms: list[Blob | None]
    if wiring.bottom:
        spans = _spans(element, "bottom")
        bottoms = [_find(c, bottom, spans[bottom], name, frame) for bottom in wiring.bottom]
    elif frame.flow.current is None:
        hint = 'declare one: `input "data" { shape: 3x224x224 }`'
        message = f"{layer.keyword} has nothing to read"
        raise SpecError(message, where(element), code="flow", hint=hint)
    else:
        bottoms = [frame.flow.current]
    if layer.role in (Role.LOSS, Role.METRIC) and len(bottoms) == 1 and 2 in layer.bottoms:
        bottoms.append(_label(c, where(element)))
    if len(bottoms) not in layer.bottoms:
        few = layer.bottoms[0]
        wanted = f"{few}" if len(layer.bottoms) == 1 else f"at least {few}"
        message = f"{layer.keyword} reads {wanted} blob{'s' * (few > 1)}, not {len(bottoms)}"
        hint = None if wiring.bottom else 'name them: `bottom: "a"  bottom: "b"`'
        raise SpecError(message, where(element), code="flow", hint=hint)
    return bottoms


class _Spans(dict[str, Span]):
    """Where each name of a field was written; `fallback` for one that was computed."""

    def __init__(self, fallback: Span) -> None:
        self.fallback = fallback

    def __missing__(self, name: str) -> Span:
        return self.fallback


def _spans(element: Element, key: str) -> _Spans:
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
        return _label(c, span)
    if blob is None:
        c.missing.append((bottom, name, span, frame))
    return blob


def _label(c: Construction, span: Span) -> Blob:
    """The declared or implicit label: one integer a sample."""
    found = c.blobs.made.get("label")
    if found is None:
        c.label = TensorType((c.batch,), "int64")
        found = Blob("label", c.label, span, maker="label")
        c.blobs.add(found)
    return found


def _infer(
    c: Construction,
    layer: Layer,
    given: Sequence[TensorType],
    bottoms: Sequence[Blob],
    element: Element,
    name: str,
) -> tuple[TensorType, ...]:
    span = where(element)
    if layer.role is Role.INPUT:
        if element.label is None:
            raise SpecError('an input needs a name: `input "data" { … }`', span, code="name")
        dtype = "int64" if name == "label" else "float32"
        extent: tuple[int, ...] = getattr(layer, "shape")  # noqa: B009
        types: tuple[TensorType, ...] = (TensorType((c.batch, *extent), dtype),)
    else:
        try:
            types = layer.infer(given)
        except ShapeError as error:
            raise _shape_fault(error, layer, bottoms, element, name) from None
    for type in types:
        _check_limits(type.shape, f"{name}: a blob", span)
    return types


def _check_limits(shape: Shape, what: str, span: Span) -> None:
    if len(shape) > MAX_AXES:
        raise SpecError(f"{what} has {len(shape)} axes: at most {MAX_AXES}", span, code="limit")
    if prod(shape) > MAX_NUMEL:
        message = f"{what} of {size(shape)} has more than 2^40 values"
        raise SpecError(message, span, code="limit")


def _shape_fault(
    error: ShapeError, layer: Layer, bottoms: Sequence[Blob], element: Element, name: str
) -> SpecError:
    span = where(element)
    stem = "kernel" if error.field == "kernel_size" else error.field
    for item in element.body.items if element.body and error.field else ():
        if _key(item) in (error.field, f"{stem}_h", f"{stem}_w"):  # type: ignore[arg-type]
            span = item.value.span if isinstance(item, Field) else item.span
    named = f"{layer.keyword} `{name}`" if layer.keyword not in name else f"`{name}`"
    notes = chain(bottoms[0]) if bottoms else ()
    return SpecError(f"{named}: {error}", span, code="shape", notes=notes, hint=error.hint)


def _tops(
    c: Construction,
    layer: Layer,
    wiring: Wiring,
    bottoms: Sequence[Blob],
    types: Sequence[TensorType],
    element: Element,
    name: str,
    frame: Frame,
) -> list[Blob]:
    span = where(element)
    names = list(wiring.top) or [name.removeprefix(frame.prefix)]
    if not wiring.top and len(types) > 1:
        raise SpecError(
            f"{layer.keyword} makes {len(types)} blobs: name each with `top`", span, code="flow"
        )
    if len(names) != len(types):
        raise SpecError(
            f"{layer.keyword} makes {len(types)} blobs, not {len(names)}", span, code="flow"
        )
    tops = []
    for i, (top, type) in enumerate(zip(names, types, strict=True)):
        full = frame.prefix + top
        existing = c.blobs.find(top, frame.prefix) if wiring.top else None
        over = bottoms[i] if i < len(bottoms) else None
        if over is not None and existing is over:
            tops.append(_overwrite(layer, over, type, span))
            continue
        blob = Blob(full, type, span, bottoms[0] if bottoms else None, maker=layer.keyword)
        c.blobs.add(blob)
        tops.append(blob)
    return tops


def _overwrite(layer: Layer, blob: Blob, type: TensorType, span: Span) -> Blob:
    if not layer.in_place:
        raise SpecError(
            f"{layer.keyword} cannot work in place: its bottom `{blob.name}` is still needed",
            span,
            code="flow",
            hint="give its top a name of its own",
        )
    assert blob.type == type, "a layer that works in place keeps the type"
    return blob


def _parameters(
    c: Construction,
    layer: Layer,
    given: Sequence[TensorType],
    wiring: Wiring,
    element: Element,
    name: str,
    frame: Frame,
) -> tuple[Parameter, ...]:
    weights = layer.weights(given)
    if len(wiring.param) > len(weights):
        raise SpecError(
            f"{layer.keyword} has {len(weights)} weights, not {len(wiring.param)}",
            where(element),
            code="field",
        )
    specs = [*wiring.param, *[Param()] * (len(weights) - len(wiring.param))]
    made = []
    for weight, spec in zip(weights, specs, strict=True):
        own = f"{_owner(name, frame)}.{weight.name}"
        parameter = Parameter(
            spec.name or own,
            weight.shape,
            weight.filler,
            1.0 if spec.lr_mult is None else spec.lr_mult,
            1.0 if spec.decay_mult is None else spec.decay_mult,
        )
        made.append(_shared(c, parameter, spec, where(element)))
    return tuple(made)


def _owner(name: str, frame: Frame) -> str:
    """The layer whose weights these are: its own, or its twin's in the expansion it shares."""
    if frame.shares and name.startswith(frame.shares[0]):
        return frame.shares[1] + name.removeprefix(frame.shares[0])
    return name


def _shared(c: Construction, parameter: Parameter, spec: Param, span: Span) -> Parameter:
    if parameter.name not in c.parameters:
        c.parameters[parameter.name] = (parameter, span)
        return parameter
    first, there = c.parameters[parameter.name]
    if first.shape != parameter.shape:
        raise SpecError(
            f"`{parameter.name}` is shared, but is {size(first.shape)} there and "
            f"{size(parameter.shape)} here",
            span,
            code="shape",
            trail=[("the first one is here", there)],
        )
    for key in ("lr_mult", "decay_mult"):
        wanted = getattr(spec, key)
        if wanted is not None and wanted != getattr(first, key):
            raise SpecError(
                f"`{parameter.name}` is shared, but its {key} is {getattr(first, key):g} there "
                f"and {wanted:g} here",
                span,
                code="field",
                trail=[("the first one is here", there)],
            )
    return replace(first)


def _poison(
    c: Construction, wiring: Wiring | None, element: Element, name: str, frame: Frame
) -> list[Blob]:
    """Stand-ins for the tops of a faulty layer: whoever reads one keeps silent."""
    names = list(wiring.top) if wiring and wiring.top else [name.removeprefix(frame.prefix)]
    blobs = []
    for top in names:
        full = frame.prefix + top
        blob = c.blobs.made.get(full) or Blob(full, None, where(element))
        blob.type = None
        c.blobs.made[full] = blob
        blobs.append(blob)
    return blobs


def report_missing(c: Construction) -> None:
    """Report bottoms that nothing makes, or that are made too late."""
    for bottom, layer, span, frame in c.missing:
        later = c.blobs.find(bottom, frame.prefix)
        if later is not None:
            error = SpecError(
                f"`{layer}` reads `{bottom}` before it is made",
                span,
                code="flow",
                trail=[("it is made here", later.span)],
            )
        else:
            known = suggest(bottom, [*c.blobs.made, *c.blobs.aliases])
            error = SpecError(f"there is no blob `{bottom}`{known}", span, code="flow")
        c.report(error, frame)
