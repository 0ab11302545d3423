"""The weights of a layer: its own, or those of a layer it shares them with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from netspec.diagnostics import Span, SpecError
from netspec.grammar.ast import Element
from netspec.ir.construction import Construction, check_limits, check_name
from netspec.ir.expression import Poisoned
from netspec.ir.flow import Frame
from netspec.ir.layer import Layer, Weight
from netspec.ir.net import Parameter
from netspec.ir.types import TensorType, size
from netspec.ir.wiring import Param, Wiring, field_span


def parameters_of(
    c: Construction,
    layer: Layer,
    given: Sequence[TensorType],
    wiring: Wiring,
    element: Element,
    name: str,
    frame: Frame,
) -> tuple[Parameter, ...]:
    """The parameters of a layer, in the order of its weights."""
    weights = layer.weights(given)
    if len(wiring.param) > len(weights):
        has = f"{len(weights)} weight{'s' * (len(weights) != 1)}" if weights else "no weights"
        raise SpecError(
            f"{layer.keyword} `{name}` has {has}, but {len(wiring.param)} param",
            field_span(element, "param", len(weights)),
            code="field",
        )
    for weight in weights:
        if misfit := weight.filler.misfit(weight.shape):
            span = field_span(element, f"{weight.name}_filler")
            raise SpecError(f"{layer.keyword} `{name}`: {misfit}", span, code="shape")
    specs = [*wiring.param, *[Param()] * (len(weights) - len(wiring.param))]
    return tuple(
        _parameter(c, weight, spec, field_span(element, "param", i), name, frame)
        for i, (weight, spec) in enumerate(zip(weights, specs, strict=True))
    )


def _parameter(
    c: Construction, weight: Weight, spec: Param, span: Span, name: str, frame: Frame
) -> Parameter:
    check_limits(weight.shape, f"{name}: the {weight.name}", span)
    if spec.name is not None:
        check_name(spec.name, span)
    parameter = Parameter(
        spec.name or f"{_owner(c, name, span, frame)}.{weight.name}",
        weight.shape,
        weight.filler,
        1.0 if spec.lr_mult is None else spec.lr_mult,
        1.0 if spec.decay_mult is None else spec.decay_mult,
    )
    if parameter.name not in c.parameters:
        c.parameters[parameter.name] = (parameter, span)
        return parameter
    return _shared(c, parameter, spec, span)


def _owner(c: Construction, name: str, span: Span, frame: Frame) -> str:
    """The layer whose weights these are: its own, or its twin's in the expansion it shares."""
    if not frame.shares or not name.startswith(frame.shares[0]):
        return name
    twin = frame.shares[1] + name.removeprefix(frame.shares[0])
    if twin not in c.names:
        if c.faulty:
            raise Poisoned
        message = f"`{name}` has no twin: the expansion it shares with has no `{twin}`"
        raise SpecError(message, span, code="name")
    return twin


def _shared(c: Construction, parameter: Parameter, spec: Param, span: Span) -> Parameter:
    """The parameter of that name; a fault if what is said of it here disagrees."""
    first, there = c.parameters[parameter.name]
    trail = [("the first one is here", there)]
    alike = first.numel == parameter.numel and spec.share_mode == "PERMISSIVE"
    if first.shape != parameter.shape and not alike:
        raise SpecError(
            f"`{parameter.name}` is shared, but is {size(first.shape)} there and "
            f"{size(parameter.shape)} here",
            span,
            code="shape",
            trail=trail,
        )
    for key in ("lr_mult", "decay_mult"):
        wanted = getattr(spec, key)
        if wanted is not None and wanted != getattr(first, key):
            raise SpecError(
                f"`{parameter.name}` is shared, but its {key} is {getattr(first, key):g} there "
                f"and {wanted:g} here",
                span,
                code="field",
                trail=trail,
            )
    return replace(first)
