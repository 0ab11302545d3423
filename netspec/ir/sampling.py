"""A random choice that gradients follow."""

from __future__ import annotations

from netspec.ir.graph import Value
from netspec.ir.layer import Context
from netspec.ir.phrases import cast_to, pad

SMALLEST = 1.1754943508222875e-38
"""The smallest normal float32; Caffe's FLT_MIN."""


def drawn(context: Context, values: Value) -> Value:
    """One of the `values` along the first axis, each with a probability in proportion to itself.

    The first with which the running sum passes a draw from 0 to the total. All are from 0 on; where
    all are 0, so is the result. Its cotangent goes to what was drawn.
    """
    op, (count, *shape) = context.op, values.type.shape
    sums = op.CumSum(values, op.scalar(0, "int64"))
    total = op.Slice(sums, op.ints(count - 1), op.ints(count), op.ints(0))
    draw = op.Mul(context.random(tuple(shape)), total)
    passed = cast_to(op, op.Greater(sums, draw), "float32")
    none = [0] * len(shape)
    before = pad(op, passed, [1, *none], [-1, *none])
    chosen: Value = op.ReduceSum(op.Mul(values, op.Sub(passed, before)), op.ints(0), keepdims=0)
    return chosen
