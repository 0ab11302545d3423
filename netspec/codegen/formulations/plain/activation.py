"""The gradients of activations that a target formulates."""

from __future__ import annotations

from collections.abc import Sequence

from netspec.codegen.formulation import Forms, formulation
from netspec.ir.graph import Op, Value
from netspec.ir.phrases import slope


@formulation("ReluGrad", "clip")
def relu(forms: Forms, node: Op) -> Sequence[Value]:
    """x̄ = ȳ·[y > 0]."""
    y_bar, y = (forms.plain(v) for v in node.inputs if v)
    return (forms.op.Mul(y_bar, slope(forms.op, y, 0, 1)),)
