"""Reduction: trailing axes become one number."""

from __future__ import annotations

from typing import ClassVar, Literal

from netspec.ir.fields import Int, Real
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, Types, Values, axis_of, numbers
from netspec.ir.types import TensorType


class Reduction(Layer):
    """y = coeff · Σ x, Σ |x|, Σ x², or the mean, over `axis` and all after it.

    From axis 0 on, as unless given, one number is left of the whole batch, and with a `loss_weight`
    it is minimised (Caffe, `reduction_layer.cpp`).
    """

    keyword: ClassVar = "reduction"
    caffe: ClassVar = CaffeType("Reduction", "reduction_param")
    example: ClassVar = """
        input "data" { shape: 3x32x32 }
        conv { num_output: 8  kernel_size: 3 }
        reduction { operation: MEAN  axis: 2 }
    """

    operation: Literal["SUM", "ASUM", "SUMSQ", "MEAN"] = "SUM"
    """What stands for the cells: their sum, that of their sizes or of their squares, their mean."""
    axis: Int = 0
    """The first axis that vanishes, with all after it; the batch is axis 0."""
    coeff: Real = 1.0
    """What the result is multiplied by."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        return (x.with_shape(*x.shape[: axis_of(self.axis, x, first=0)]),)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), op = bottoms, context.op
        if self.operation == "ASUM":
            x = op.Abs(x)
        elif self.operation == "SUMSQ":
            x = op.Mul(x, x)
        reduce = op.ReduceMean if self.operation == "MEAN" else op.ReduceSum
        first = axis_of(self.axis, x.type, first=0)
        y = reduce(x, op.ints(*range(first, len(x.type.shape))), keepdims=0)
        return (y if self.coeff == 1 else op.Mul(y, op.scalar(self.coeff)),)
