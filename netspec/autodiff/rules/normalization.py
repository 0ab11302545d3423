"""Normalisation: every cell's cotangent feels those of the cells that it was measured by."""

from __future__ import annotations

from collections.abc import Sequence

from netspec.autodiff.vjp import Primal, vjp
from netspec.ir.graph import Ops, Value


@vjp("BatchNormalization")
def batch_normalization(
    op: Ops, primal: Primal, y_bar: Value | None, *statistics_bar: Value | None
) -> Sequence[Value | None]:
    """With x̂ = (x - μ)/σ: scale̅ = Σ ȳ·x̂; bias̅ = Σ ȳ; x̄ = scale/σ·(ȳ - bias̅/m - x̂·scale̅/m)."""
    x, scale, _bias, _mean, _variance = primal.node.inputs
    assert y_bar is not None
    assert primal.node.attrs.get("training_mode"), f"{primal.node.name}: only of the batch's own"
    assert not any(statistics_bar), f"{primal.node.name}: the batch's statistics have no gradient"
    _, mean, variance = primal.node.outputs
    x_bar, scale_bar, bias_bar = op.BatchNormalizationGrad(
        y_bar, x, scale, mean, variance, outputs=3, epsilon=primal.node.attrs["epsilon"]
    )
    return [x_bar, scale_bar, bias_bar, None, None]


@vjp("LRN")
def lrn(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """With b = k + α/n·Σ x²: x̄ = ȳ·b^-β - 2·α·β/n·x·Σ ȳ·y/b, the sums over n channels."""
    (x,) = primal.node.inputs
    (y,) = primal.node.outputs
    return [op.LRNGrad(y_bar, x, y, **primal.node.attrs)]
