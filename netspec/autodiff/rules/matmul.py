"""Matrix products: each factor's cotangent is a product of ȳ with the other factor."""

from __future__ import annotations

from typing import Any

from netspec.autodiff.vjp import Primal, vjp
from netspec.ir.graph import Operator, Ops, Value
from netspec.ir.phrases import scale, sum_to


def _factors(
    product: Operator,
    primal: Primal,
    y_bar: Value,
    *,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> list[Value | None]:
    """The cotangents of a and b in y = α·a'·b', a' and b' the factors as they are multiplied."""
    a, b, *_ = primal.node.inputs
    a_bar = b_bar = None
    settings: dict[str, Any] = {} if alpha == 1 else {"alpha": alpha}
    if primal.wants(1):
        b_bar = (
            product(y_bar, a, transA=1, transB=transA, **settings)
            if transB
            else product(a, y_bar, transA=1 - transA, transB=0, **settings)
        )
    if primal.wants(0):
        a_bar = (
            product(b, y_bar, transA=transB, transB=1, **settings)
            if transA
            else product(y_bar, b, transA=0, transB=1 - transB, **settings)
        )
    return [a_bar, b_bar]


@vjp("Gemm")
def gemm(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """For y = α·a·b + β·c: ā = α·ȳ·bᵀ; b̄ = α·aᵀ·ȳ; c̄ = β·ȳ summed over its broadcast."""
    settings = dict(primal.node.attrs)
    beta = settings.pop("beta", 1.0)
    pulled = _factors(op.Gemm, primal, y_bar, **settings)
    for c in primal.node.inputs[2:]:
        wanted = c is not None and primal.wants(2)
        pulled.append(scale(op, sum_to(op, y_bar, c.type.shape), beta) if c and wanted else None)
    return pulled


@vjp("MatMul")
@vjp("FusedMatMul")
def matmul(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """For y = α·a·b: ā = α·ȳ·bᵀ; b̄ = α·aᵀ·ȳ, summed over batch axes if b has none."""
    a, b = primal.node.inputs
    assert a is not None
    assert b is not None
    assert b.type.shape[:-2] in (a.type.shape[:-2], ()), f"{primal.node.name}: batch axes differ"
    a_bar, b_bar = _factors(op.FusedMatMul, primal, y_bar, **primal.node.attrs)
    return [a_bar, b_bar and sum_to(op, b_bar, b.type.shape)]
