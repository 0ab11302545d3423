"""Operators that pick values by index or by condition."""

from __future__ import annotations

from math import prod

from netspec.autodiff.vjp import Primal, vjp
from netspec.ir.graph import Ops, Value
from netspec.ir.phrases import cast_to, reshape, scatter, spread, sum_to, zeros


@vjp("Gather")
def gather(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """x̄ = Σ of the slices of ȳ that were taken from each place."""
    x, indices = primal.node.inputs
    assert x is not None
    assert indices is not None
    shape = x.type.shape
    axis = primal.node.attrs.get("axis", 0) % len(shape)
    taken = prod(indices.type.shape)
    updates = reshape(op, y_bar, *shape[:axis], taken, *shape[axis + 1 :])
    column = reshape(op, indices, taken, *(1 for _ in shape[axis + 1 :]))
    return [scatter(op, shape, spread(op, column, updates.type.shape), updates, axis), None]


@vjp("GatherElements")
def gather_elements(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """x̄ = Σ of the cells of ȳ that were taken from each place."""
    x, indices = primal.node.inputs
    assert x is not None
    assert indices is not None
    axis = primal.node.attrs.get("axis", 0)
    return [scatter(op, x.type.shape, indices, y_bar, axis), None]


@vjp("ScatterElements")
def scatter_elements(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """x̄ = ȳ where nothing was written; ū = the cells of ȳ where u was written."""
    x, indices, updates = primal.node.inputs
    assert x is not None
    assert updates is not None
    axis = primal.node.attrs.get("axis", 0)
    assert primal.node.attrs.get("reduction", "none") == "none", primal.node.name
    x_bar = u_bar = None
    if primal.wants(0):
        none = zeros(op, updates.type.shape, y_bar.type.dtype)
        x_bar = op.ScatterElements(y_bar, indices, none, axis=axis)
    if primal.wants(2):
        u_bar = op.GatherElements(y_bar, indices, axis=axis)
    return [x_bar, None, u_bar]


@vjp("TopK")
def top_k(op: Ops, primal: Primal, y_bar: Value, *_: None) -> list[Value | None]:
    """x̄ = the cells of ȳ where they were taken from, zeros elsewhere."""
    x, *_rest = primal.node.inputs
    indices = primal.node.outputs[1]
    assert x is not None
    axis = primal.node.attrs.get("axis", -1) % len(x.type.shape)
    return [scatter(op, x.type.shape, indices, y_bar, axis, add=False), None]


@vjp("Where")
def where(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """ā = ȳ·[c]; b̄ = ȳ·[not c]; each summed over what its operand is broadcast to."""
    c, a, b = primal.node.inputs
    assert c is not None
    assert a is not None
    assert b is not None
    a_bar = b_bar = None
    if primal.wants(1):
        taken = op.Mul(y_bar, cast_to(op, c, y_bar.type.dtype))
        a_bar = sum_to(op, taken, a.type.shape)
    if primal.wants(2):
        left = op.Mul(y_bar, cast_to(op, op.Not(c), y_bar.type.dtype))
        b_bar = sum_to(op, left, b.type.shape)
    return [None, a_bar, b_bar]
