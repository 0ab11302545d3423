"""What the sum of a loss over its positions is divided by, in Caffe's words."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from netspec.ir.fields import flag
from netspec.ir.graph import Ops, Value

Normalization: TypeAlias = Literal["VALID", "FULL", "BATCH_SIZE", "NONE"]
"""Positions that count, all positions, samples, or nothing (Caffe, `LossParameter`)."""

_TINY = 1e-30
"""Divides where nothing counts, so that a sum of nothing is a mean of 0."""


def folded(data: Any) -> Any:
    """A layer's fields, Caffe's older `normalize` said as `normalization` if that is unsaid."""
    if not isinstance(data, dict) or data.get("normalize") is None:
        return data
    valid = flag(data["normalize"])
    rest = {name: value for name, value in data.items() if name != "normalize"}
    return {"normalization": "VALID" if valid else "BATCH_SIZE", **rest}


def normalized(
    op: Ops,
    each: Value,
    counts: Value | None,
    by: Normalization,
    shares: Value | None = None,
    *,
    samples: int = 1,
) -> Value:
    """Σ each·counts / n, over the first axes, `samples` of them, and the positions behind them.

    `counts` is 1 where a position counts and 0 where not, None if all count. A VALID n is
    Σ shares·counts, where a share is 1 unless given; of BATCH_SIZE the cells of the first axes.
    """
    axes = range(len(each.type.shape))
    batch, positions = axes[:samples], axes[samples:]
    if counts is not None:
        each = op.Mul(each, counts)
        shares = counts if shares is None else op.Mul(shares, counts)
    loss: Value
    if by == "VALID" and shares is not None:
        total, number = (op.ReduceSum(x, op.ints(*axes), keepdims=0) for x in (each, shares))
        loss = op.Div(total, op.Max(number, op.scalar(_TINY)))
    elif by in ("VALID", "FULL"):
        loss = op.ReduceMean(each, op.ints(*axes), keepdims=0)
    else:
        if positions:
            each = op.ReduceSum(each, op.ints(*positions), keepdims=0)
        reduce = op.ReduceMean if by == "BATCH_SIZE" else op.ReduceSum
        loss = reduce(each, op.ints(*batch), keepdims=0)
    return loss
