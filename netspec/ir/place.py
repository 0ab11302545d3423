"""Places one layer in the net: its fields, its bottoms and tops, its weights."""

from __future__ import annotations

from collections.abc import Sequence

from netspec.diagnostics import Span, SpecError
from netspec.grammar.ast import Element, Field
from netspec.ir.construction import RULES, Construction, check_limits, check_name, where
from netspec.ir.expression import Poisoned
from netspec.ir.flow import Blob, Frame, chain
from netspec.ir.layer import Layer, Role, ShapeError
from netspec.ir.net import Node, Place
from netspec.ir.scope import Lookup
from netspec.ir.sharing import parameters_of
from netspec.ir.types import TensorType, size
from netspec.ir.validate import Model, validate
from netspec.ir.wiring import UNWIRED, Wiring, bottoms_of, field_span, key_of, spans_of
from netspec.wording import counted


def place(c: Construction, layer: type[Layer], element: Element, name: str, frame: Frame) -> None:
    """Add the node that `element` describes; after a fault, poison what it would have made."""
    items = _fields(c, element, frame)
    made: list[Blob] = []
    wiring: Wiring | None = None
    try:
        wiring = _wiring(c, layer, element, items, frame)
        settings = [i for i in items if key_of(i) not in Wiring.model_fields]
        instance = _validated(c, layer, settings, layer, element, frame)
        bottoms = bottoms_of(c, layer, wiring, element, name, frame)
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
    if layer.role is Role.SINK:
        return
    tops = made or _poison(c, wiring, element, name, frame)
    fresh = layer.role in (Role.INPUT, Role.SOURCE)
    begins = fresh and frame.flow.current is None and name != "label"
    if layer.role is Role.HIDDEN or begins:
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
    given = list(layer.read(given))
    types = _infer(c, layer, given, bottoms, element, name)
    tops = _tops(c, layer, wiring, bottoms, types, element, name, frame)
    _check_propagation(layer, wiring, bottoms, element, name)
    parameters = parameters_of(c, layer, given, wiring, element, name, frame)
    if layer.role is Role.METRIC and tops[0].name == "loss":
        message = "a metric cannot be called `loss`: reports call the sum of the losses so"
        raise SpecError(message, span, code="name")
    loss_weights = _loss_weights(layer, wiring, types, element)
    if layer.bound(given) and any(bottom.shape[:1] == (c.batch,) for bottom in given):
        fixed = f"{name}: hangs on the batch size {c.batch}, and runs at no other"
        c.warn(fixed, span, frame, code="layer")
    for lint in layer.lints(given):
        code = "layer" if layer.window(given) is None else "window"
        c.warn(f"{name}: {lint}", span, frame, code=code)
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
            loss_weight=loss_weights[0] if loss_weights else 0.0,
            further_loss_weights=loss_weights[1:] if any(loss_weights[1:]) else (),
            propagate_down=() if all(wiring.propagate_down) else wiring.propagate_down,
        )
    )
    c.places.append(Place(span, frame.trail))
    for bottom in bottoms:
        bottom.reads += 1
    return tops


def _check_propagation(
    layer: Layer, wiring: Wiring, bottoms: Sequence[Blob], element: Element, name: str
) -> None:
    """`propagate_down` is given for no bottom or for each, as in Caffe."""
    given, wanted = len(wiring.propagate_down), len(bottoms)
    if given not in (0, wanted):
        blobs = ", ".join(f"`{b.name}`" for b in bottoms)
        raise SpecError(
            f"{layer.keyword} `{name}` reads {counted(wanted, 'blob')}, "
            f"but has {given} propagate_down",
            field_span(element, "propagate_down", wanted),
            code="field",
            hint=f"one for each of {blobs}, or none" if bottoms else None,
        )


def _loss_weights(
    layer: Layer, wiring: Wiring, types: Sequence[TensorType], element: Element
) -> tuple[float, ...]:
    """What each top, summed up, counts in the sum that is minimised."""
    given = wiring.loss_weight
    if not given:
        first = 1.0 if layer.role is Role.LOSS else 0.0
        return (first, *[0.0] * (len(types) - 1)) if types else ()
    span = field_span(element, "loss_weight")
    if layer.role not in (Role.LOSS, Role.HIDDEN, Role.SOURCE):
        message = f"{layer.keyword} has no gradient: it has no loss_weight"
        raise SpecError(message, span, code="field")
    if len(given) != len(types):
        tops = counted(len(types), "top")
        message = f"{layer.keyword} makes {tops}: it takes as many loss_weight, not {len(given)}"
        raise SpecError(message, span, code="field")
    return given


def _fields(c: Construction, element: Element, frame: Frame) -> list[Field | Element]:
    items: list[Field | Element] = []
    for item in element.body.items if element.body else ():
        if not isinstance(item, Field | Element):
            c.report(SpecError("a layer holds fields only", item.span, code="field"), frame)
        elif not (isinstance(item, Element) and item.word in RULES):
            items.append(item)
    return items


def _wiring(
    c: Construction,
    layer: type[Layer],
    element: Element,
    items: Sequence[Field | Element],
    frame: Frame,
) -> Wiring | None:
    own = [i for i in items if key_of(i) in Wiring.model_fields]
    if not own:
        return UNWIRED
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
        also=(*Wiring.model_fields, *RULES),
    )


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
        span = field_span(element, "shape")
    else:
        try:
            types = layer.infer(given)
        except ShapeError as error:
            raise _shape_fault(error, layer, bottoms, element, name) from None
    for type in types:
        check_limits(type.shape, f"{name}: a blob", span)
    return types


def _shape_fault(
    error: ShapeError, layer: Layer, bottoms: Sequence[Blob], element: Element, name: str
) -> SpecError:
    span = where(element)
    if error.field:
        stem = "kernel" if error.field == "kernel_size" else error.field
        places = [field_span(element, key) for key in (error.field, f"{stem}_h", f"{stem}_w")]
        span = next((place for place in places if place != span), span)
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
    unnamed = [] if layer.role is Role.SINK else [name.removeprefix(frame.prefix)]
    names = list(wiring.top) or unnamed
    spans = spans_of(element, "top")
    if layer.role is Role.SINK and names:
        raise SpecError(f"{layer.keyword} makes no blobs", spans.fallback, code="flow")
    if len(names) != len(types):
        given = f"not {len(names)}" if wiring.top else "name each with `top`"
        message = f"{layer.keyword} makes {counted(len(types), 'blob')}, {given}"
        raise SpecError(message, spans.fallback, code="flow")
    tops = []
    for i, (top, type) in enumerate(zip(names, types, strict=True)):
        check_name(top, spans[top])
        existing = c.blobs.find(top, frame.prefix) if wiring.top else None
        over = bottoms[i] if i < len(bottoms) else None
        if over is not None and existing is over:
            tops.append(_overwrite(layer, over, type, spans[top]))
            continue
        source = bottoms[0] if bottoms else None
        blob = Blob(c.full(top, frame), type, spans[top], source, maker=layer.keyword)
        c.blobs.add(blob)
        tops.append(blob)
    return tops


def _overwrite(layer: Layer, blob: Blob, type: TensorType, span: Span) -> Blob:
    if not (layer.in_place or layer.reuses_name):
        raise SpecError(
            f"{layer.keyword} cannot work in place: it would overwrite `{blob.name}`, its bottom",
            span,
            code="flow",
            hint="give its top a name of its own",
        )
    assert blob.type is not None, "what hangs on a fault is not placed"
    if blob.type.shape != type.shape:
        given, made = size(blob.type.shape), size(type.shape)
        message = f"{layer.keyword} makes {made} of `{blob.name}`, which is {given}"
        hint = "give its top a name of its own"
        raise SpecError(message, span, code="flow", hint=hint)
    blob.type = type  # labels that are counted are numbers from here on
    return blob


def _poison(
    c: Construction, wiring: Wiring | None, element: Element, name: str, frame: Frame
) -> list[Blob]:
    """Stand-ins for the tops of a faulty layer: whoever reads one keeps silent."""
    names = list(wiring.top) if wiring else list(spans_of(element, "top"))
    blobs = []
    for top in names or [name.removeprefix(frame.prefix)]:
        over = c.blobs.find(top, frame.prefix) if wiring and top in wiring.bottom else None
        full = c.full(top, frame)
        blob = over or c.blobs.made.get(full) or Blob(full, None, where(element))
        blob.type = None
        c.blobs.made[blob.name] = blob
        blobs.append(blob)
    return blobs
