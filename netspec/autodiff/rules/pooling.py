"""Pooling: a window's cotangent goes to the cell that won, or in equal shares to all."""

from __future__ import annotations

from netspec.autodiff.vjp import Primal, vjp
from netspec.ir.graph import Ops, Value


@vjp("MaxPool")
def max_pool(op: Ops, primal: Primal, y_bar: Value, *_: None) -> list[Value | None]:
    """x̄[i] = Σ of the ȳ whose window's first maximum is cell i."""
    (x,) = primal.node.inputs
    assert len(primal.node.outputs) == 2, f"{primal.node.name}: ask for the indices in training"
    y, indices = primal.node.outputs
    return [op.MaxPoolGrad(y_bar, x, y, indices, **primal.node.attrs)]


@vjp("AveragePool")
def average_pool(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """x̄ = Σ of ȳ/count over the windows that hold a cell."""
    (x,) = primal.node.inputs
    assert x is not None
    return [op.AveragePoolGrad(y_bar, shape=x.type.shape, **primal.node.attrs)]
