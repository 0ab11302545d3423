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
from netspec.ir.sections import Solver
from netspec.ir.types import TensorType, size
from netspec.ir.wiring import Param, Wiring, field_span
from netspec.wording import counted


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
        has = counted(len(weights), "weight") if weights else "no weights"
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
        spec.share_mode,
    )
    if parameter.name not in c.parameters:
        c.parameters[parameter.name] = (parameter, span)
    else:
        _check_shape(*c.parameters[parameter.name], parameter, span)
    _note(c, parameter.name, spec, span)
    return parameter


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


def _check_shape(first: Parameter, there: Span, parameter: Parameter, span: Span) -> None:
    """A shared parameter has the shape of the first one or, if PERMISSIVE, as many values."""
    if parameter.share_mode == "PERMISSIVE":
        said = (f"holds {first.numel:,} values", f"{parameter.numel:,}")
        fits, hint = first.numel == parameter.numel, None
    else:
        said = (f"is {size(first.shape)}", size(parameter.shape))
        fits, hint = first.shape == parameter.shape, None
        if first.numel == parameter.numel:
            hint = "`share_mode: PERMISSIVE` lets each layer have its own shape"
    if not fits:
        raise SpecError(
            f"`{parameter.name}` is shared, but {said[0]} there and {said[1]} here",
            span,
            code="shape",
            trail=[("the first one is here", there)],
            hint=hint,
        )


def _note(c: Construction, name: str, spec: Param, span: Span) -> None:
    """Keep what a layer says of a parameter's multipliers; those who say one must agree."""
    for key in ("lr_mult", "decay_mult"):
        wanted = getattr(spec, key)
        if wanted is None:
            continue
        said, there = c.multipliers.setdefault((name, key), (wanted, span))
        if wanted != said:
            raise SpecError(
                f"`{name}` is shared, but its {key} is {said:g} there and {wanted:g} here",
                span,
                code="field",
                trail=[("the first one is here", there)],
            )


def settle_multipliers(c: Construction, solver: Solver | None) -> None:
    """Give every layer that shares a parameter the multipliers that any of them names.

    One that names none takes those of the others, whichever comes first (Caffe,
    `Net::AppendParam`). A solver without `decay_norm_and_bias` has the last word on vectors.
    """
    spared = solver is not None and not solver.decay_norm_and_bias

    def multiplier(p: Parameter, key: str) -> float:
        first, _ = c.parameters[p.name]
        if spared and key == "decay_mult" and len(first.shape) <= 1:
            return 0.0
        return c.multipliers.get((p.name, key), (1.0,))[0]

    for i, node in enumerate(c.nodes if c.multipliers or spared else ()):
        settled = tuple(
            replace(p, lr_mult=multiplier(p, "lr_mult"), decay_mult=multiplier(p, "decay_mult"))
            for p in node.parameters
        )
        if settled != node.parameters:
            c.nodes[i] = node.model_copy(update={"parameters": settled})
