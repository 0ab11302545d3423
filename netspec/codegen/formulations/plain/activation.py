"""The gradients of activations that a target formulates."""

from __future__ import annotations

from collections.abc import Sequence

from netspec.codegen.formulation import Forms, formulation, on_cuda
from netspec.ir.graph import Op, Value
from netspec.ir.phrases import slope


@formulation("ReluGrad", "clip")
def relu(forms: Forms, node: Op) -> Sequence[Value]:
    """x̄ = ȳ·[y > 0]."""
    y_bar, y = (forms.plain(v) for v in node.inputs if v)
    return (forms.op.Mul(y_bar, slope(forms.op, y, 0, 1)),)


@formulation("ReluGrad", "where", accepts=on_cuda)
def relu_where(forms: Forms, node: Op) -> Sequence[Value]:
    """The same by a choice: half the time on CUDA, three times as long on the CPU."""
    op, (y_bar, y) = forms.op, (forms.plain(v) for v in node.inputs if v)
    zero = op.scalar(0)
    return (op.Where(op.Greater(y, zero), y_bar, zero),)
