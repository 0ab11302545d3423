"""Arithmetic cell by cell, with ONNX's broadcasting."""

from __future__ import annotations

import numpy as np

from netspec.autodiff.vjp import Primal, vjp
from netspec.ir.graph import Ops, Value
from netspec.ir.phrases import cast_to, scale, slope, sum_to


def _operands(primal: Primal) -> tuple[Value, Value]:
    a, b = primal.node.inputs
    assert a is not None
    assert b is not None
    return a, b


@vjp("Add")
def add(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """ā = ȳ; b̄ = ȳ; each summed over what its operand is broadcast to."""
    return [
        sum_to(op, y_bar, x.type.shape) if primal.wants(i) else None
        for i, x in enumerate(_operands(primal))
    ]


@vjp("Sub")
def sub(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """ā = ȳ; b̄ = -ȳ; each summed over what its operand is broadcast to."""
    a, b = _operands(primal)
    return [
        sum_to(op, y_bar, a.type.shape) if primal.wants(0) else None,
        op.Neg(sum_to(op, y_bar, b.type.shape)) if primal.wants(1) else None,
    ]


@vjp("Mul")
def mul(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """ā = ȳ·b; b̄ = ȳ·a; each summed over what its operand is broadcast to; 2·ȳ·a for a square."""
    a, b = _operands(primal)
    if a is b:
        return [op.Mul(scale(op, y_bar, 2), a), None]
    return [
        sum_to(op, op.Mul(y_bar, b), a.type.shape) if primal.wants(0) else None,
        sum_to(op, op.Mul(y_bar, a), b.type.shape) if primal.wants(1) else None,
    ]


@vjp("Div")
def div(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """ā = ȳ/b; b̄ = -y·ȳ/b; each summed over what its operand is broadcast to."""
    a, b = _operands(primal)
    (y,) = primal.node.outputs
    quotient = op.Div(y_bar, b)
    return [
        sum_to(op, quotient, a.type.shape) if primal.wants(0) else None,
        op.Neg(sum_to(op, op.Mul(quotient, y), b.type.shape)) if primal.wants(1) else None,
    ]


@vjp("Sum")
def sum_(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """x̄ᵢ = ȳ, summed over what xᵢ is broadcast to."""
    return [
        sum_to(op, y_bar, x.type.shape) if x and primal.wants(i) else None
        for i, x in enumerate(primal.node.inputs)
    ]


@vjp("Max")
@vjp("Min")
def extremum(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """x̄ᵢ = ȳ·[xᵢ = y and no earlier xⱼ is]."""
    (y,) = primal.node.outputs
    inputs, last = primal.node.inputs, max(i for i, w in enumerate(primal.wanted) if w)
    pulled: list[Value | None] = [None] * len(inputs)
    left = y_bar
    for i, x in enumerate(inputs[: last + 1]):
        assert x is not None
        share = left
        if i < len(inputs) - 1:
            share = op.Mul(left, cast_to(op, op.Equal(x, y), y.type.dtype))
        if i < last:
            left = op.Sub(left, share)
        if primal.wants(i):
            pulled[i] = sum_to(op, share, x.type.shape)
    return pulled


@vjp("Neg")
def neg(op: Ops, _: Primal, y_bar: Value) -> tuple[Value]:
    """x̄ = -ȳ."""
    return (op.Neg(y_bar),)


@vjp("Abs")
def abs_(op: Ops, primal: Primal, y_bar: Value) -> tuple[Value]:
    """x̄ = ȳ·sign(x)."""
    (x,) = primal.node.inputs
    assert x is not None
    return (op.Mul(y_bar, slope(op, x, -1, 1)),)


@vjp("Exp")
def exp(op: Ops, primal: Primal, y_bar: Value) -> tuple[Value]:
    """x̄ = ȳ·y."""
    (y,) = primal.node.outputs
    return (op.Mul(y_bar, y),)


@vjp("Log")
def log(op: Ops, primal: Primal, y_bar: Value) -> tuple[Value]:
    """x̄ = ȳ/x."""
    (x,) = primal.node.inputs
    return (op.Div(y_bar, x),)


@vjp("Cos")
def cos(op: Ops, primal: Primal, y_bar: Value) -> tuple[Value]:
    """x̄ = -ȳ·sin(x)."""
    (x,) = primal.node.inputs
    return (op.Neg(op.Mul(y_bar, op.Sin(x))),)


@vjp("Sin")
def sin(op: Ops, primal: Primal, y_bar: Value) -> tuple[Value]:
    """x̄ = ȳ·cos(x)."""
    (x,) = primal.node.inputs
    return (op.Mul(y_bar, op.Cos(x)),)


@vjp("Sqrt")
def sqrt(op: Ops, primal: Primal, y_bar: Value) -> tuple[Value]:
    """x̄ = ȳ/(2·y)."""
    (y,) = primal.node.outputs
    return (op.Div(op.Mul(y_bar, op.scalar(0.5, y.type.dtype)), y),)


@vjp("Reciprocal")
def reciprocal(op: Ops, primal: Primal, y_bar: Value) -> tuple[Value]:
    """x̄ = -ȳ·y²."""
    (y,) = primal.node.outputs
    return (op.Neg(op.Mul(y_bar, op.Mul(y, y))),)


@vjp("Pow")
def pow_(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """x̄ = ȳ·p·xᵖ⁻¹, for a constant p."""
    x, p = _operands(primal)
    exponent = op.known(p)
    assert exponent is not None, f"{primal.node.name}: the exponent must be a constant"
    assert not primal.wants(1), f"{primal.node.name}: an exponent has no gradient"
    exponent = exponent.astype(x.type.dtype)
    (y,) = primal.node.outputs
    if np.all(exponent == 2):
        power = x
    elif np.all(exponent < 1):
        # Where p < 1, x is not 0, and a division costs a tenth of a power.
        power = op.Div(y, x)
    else:
        power = op.Pow(x, op.constant(exponent - 1))
    steep = op.Mul(op.Mul(y_bar, power), op.constant(exponent))
    return [sum_to(op, steep, x.type.shape), None]


@vjp("Clip")
def clip(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """x̄ = ȳ·[x = y], so that the bounds themselves let through; they get no cotangent."""
    x, *bounds = primal.node.inputs
    (y,) = primal.node.outputs
    assert not any(primal.wanted[1:]), f"{primal.node.name}: the bounds have no gradient"
    inside = cast_to(op, op.Equal(x, y), y.type.dtype)
    return [op.Mul(y_bar, inside), *(None for _ in bounds)]
