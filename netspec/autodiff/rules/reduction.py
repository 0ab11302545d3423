"""Reductions: the cotangent of the result spreads over what was reduced."""

from __future__ import annotations

from math import prod

from netspec.autodiff.vjp import Primal, vjp
from netspec.ir.graph import Ops, Value
from netspec.ir.phrases import cast_to, reshape, scale, spread
from netspec.ir.types import Shape


def _reduced(op: Ops, primal: Primal) -> tuple[Value, tuple[int, ...], Shape]:
    """The operand, the axes that are reduced, and its shape with 1 on those axes."""
    x, *rest = primal.node.inputs
    assert x is not None
    rank = len(x.type.shape)
    given = None
    if rest and rest[0] is not None:
        given = op.known(rest[0])
        assert given is not None, f"{primal.node.name}: the axes must be a constant"
    if given is None or not given.size:
        axes = () if primal.node.attrs.get("noop_with_empty_axes", 0) else tuple(range(rank))
    else:
        axes = tuple(int(axis) % rank for axis in given)
    kept = tuple(1 if axis in axes else n for axis, n in enumerate(x.type.shape))
    return x, axes, kept


def _only_first(primal: Primal, x_bar: Value) -> list[Value | None]:
    return [x_bar, *(None for _ in primal.node.inputs[1:])]


@vjp("ReduceSum")
def reduce_sum(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """x̄ = ȳ, spread over the axes."""
    x, _, kept = _reduced(op, primal)
    return _only_first(primal, spread(op, reshape(op, y_bar, *kept), x.type.shape))


@vjp("ReduceMean")
def reduce_mean(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """x̄ = ȳ/count, spread over the axes."""
    x, axes, kept = _reduced(op, primal)
    share = scale(op, y_bar, 1 / prod(x.type.shape[axis] for axis in axes))
    return _only_first(primal, spread(op, reshape(op, share, *kept), x.type.shape))


@vjp("CumSum")
def cumulative_sum(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """x̄ᵢ = Σ of the ȳⱼ that xᵢ is in: the sums from the other end."""
    _, axis = primal.node.inputs
    attrs = dict(primal.node.attrs)
    attrs["reverse"] = 1 - attrs.get("reverse", 0)
    return _only_first(primal, op.CumSum(y_bar, axis, **attrs))


@vjp("ReduceMax")
def reduce_max(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """x̄ = ȳ·[x = y]/Σ[x = y]: equal maxima share alike, as in torch.amax."""
    x, axes, kept = _reduced(op, primal)
    (y,) = primal.node.outputs
    won = cast_to(op, op.Equal(x, reshape(op, y, *kept)), x.type.dtype)
    winners = op.ReduceSum(won, op.ints(*axes), keepdims=1)
    return _only_first(primal, op.Mul(won, op.Div(reshape(op, y_bar, *kept), winners)))
