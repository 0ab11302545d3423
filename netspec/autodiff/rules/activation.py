"""Activations: each cell's cotangent times the slope there."""

from __future__ import annotations

from math import pi, sqrt

from netspec.autodiff.vjp import Primal, vjp
from netspec.ir.graph import Ops, Value
from netspec.ir.phrases import slope, sum_to


@vjp("Relu")
def relu(op: Ops, primal: Primal, y_bar: Value) -> tuple[Value]:
    """x̄ = ȳ·[y > 0]."""
    (y,) = primal.node.outputs
    return (op.ReluGrad(y_bar, y),)


@vjp("LeakyRelu")
def leaky_relu(op: Ops, primal: Primal, y_bar: Value) -> tuple[Value]:
    """x̄ = ȳ·(1 where x > 0, α where x < 0)."""
    (x,) = primal.node.inputs
    assert x is not None
    alpha = primal.node.attrs.get("alpha", 0.01)
    if alpha <= 1:
        return (op.Mul(y_bar, slope(op, x, alpha, 1)),)
    return (op.Mul(y_bar, slope(op, op.Neg(x), 1, alpha)),)


@vjp("PRelu")
def prelu(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """With q = -ȳ·[x < 0]: x̄ = ȳ + q·(1 - a); ā = -Σ q·x over what a is broadcast to."""
    x, a = primal.node.inputs
    assert x is not None
    assert a is not None
    q = op.Mul(y_bar, slope(op, x, -1, 0))
    x_bar = a_bar = None
    if primal.wants(0):
        x_bar = op.Add(y_bar, op.Mul(q, op.Sub(op.scalar(1, a.type.dtype), a)))
    if primal.wants(1):
        a_bar = op.Neg(sum_to(op, op.Mul(q, x), a.type.shape))
    return [x_bar, a_bar]


@vjp("Elu")
def elu(op: Ops, primal: Primal, y_bar: Value) -> tuple[Value]:
    """x̄ = ȳ·(1 where x > 0, y + α where not)."""
    (y,) = primal.node.outputs
    alpha, dtype = primal.node.attrs.get("alpha", 1.0), y.type.dtype
    steep = op.Add(op.Clip(y, None, op.scalar(0, dtype)), op.scalar(alpha, dtype))
    if alpha != 1:
        above = op.Mul(slope(op, y, 0, 1), op.scalar(1 - alpha, dtype))
        steep = op.Add(steep, above)
    return (op.Mul(y_bar, steep),)


@vjp("Sigmoid")
def sigmoid(op: Ops, primal: Primal, y_bar: Value) -> tuple[Value]:
    """x̄ = ȳ·y·(1 - y)."""
    (y,) = primal.node.outputs
    rest = op.Sub(op.scalar(1, y.type.dtype), y)
    return (op.Mul(op.Mul(y_bar, y), rest),)


@vjp("Tanh")
def tanh(op: Ops, primal: Primal, y_bar: Value) -> tuple[Value]:
    """x̄ = ȳ·(1 - y²)."""
    (y,) = primal.node.outputs
    return (op.Mul(y_bar, op.Sub(op.scalar(1, y.type.dtype), op.Mul(y, y))),)


@vjp("Softplus")
def softplus(op: Ops, primal: Primal, y_bar: Value) -> tuple[Value]:
    """x̄ = ȳ/(1 + exp(-x))."""
    (x,) = primal.node.inputs
    return (op.Mul(y_bar, op.Sigmoid(x)),)


@vjp("Erf")
def erf(op: Ops, primal: Primal, y_bar: Value) -> tuple[Value]:
    """x̄ = ȳ·2/√π·exp(-x²)."""
    (x,) = primal.node.inputs
    assert x is not None
    bell = op.Exp(op.Neg(op.Mul(x, x)))
    return (op.Mul(op.Mul(y_bar, bell), op.scalar(2 / sqrt(pi), x.type.dtype)),)


@vjp("Softmax")
def softmax(op: Ops, primal: Primal, y_bar: Value) -> tuple[Value]:
    """x̄ = y·ȳ - y·Σ y·ȳ along the axis."""
    (y,) = primal.node.outputs
    axis = primal.node.attrs.get("axis", -1)
    weighted = op.Mul(y, y_bar)
    return (op.Sub(weighted, op.Mul(y, op.ReduceSum(weighted, op.ints(axis), keepdims=1))),)


@vjp("LogSoftmax")
def log_softmax(op: Ops, primal: Primal, y_bar: Value) -> tuple[Value]:
    """x̄ = ȳ - exp(y)·Σ ȳ along the axis."""
    (y,) = primal.node.outputs
    axis = primal.node.attrs.get("axis", -1)
    return (op.Sub(y_bar, op.Mul(op.Exp(y), op.ReduceSum(y_bar, op.ints(axis), keepdims=1))),)
