"""Eltwise: bottoms are added, multiplied or compared cell by cell."""

from __future__ import annotations

from functools import reduce
from typing import ClassVar, Literal

from netspec.ir.fields import MAX_INT, Flag, Reals
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, ShapeError, Types, Values, numbers, shapes
from netspec.ir.types import TensorType


class Eltwise(Layer):
    """y = Σ coeff[i]·x[i], Π x[i], or max x[i], over the bottoms (Caffe, `eltwise_layer.cpp`)."""

    keyword: ClassVar = "eltwise"
    caffe: ClassVar = CaffeType("Eltwise", "eltwise_param", "ELTWISE")
    bottoms: ClassVar = range(2, MAX_INT)
    reuses_name: ClassVar = True
    counts_labels: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 3x32x32 }
        conv "body" { bottom: "data"  num_output: 3  kernel_size: 3  pad: 1 }
        eltwise { bottom: "body"  bottom: "data"  operation: SUM }
    """

    operation: Literal["SUM", "PROD", "MAX"] = "SUM"
    """How cells are combined."""
    coeff: Reals = ()
    """SUM: what each bottom is multiplied by, one number per bottom; 1 unless given."""
    stable_prod_grad: Flag = True
    """Accepted as in Caffe; the gradient of PROD never divides."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        first, *others = numbers(bottoms)
        if any(other != first for other in others):
            raise ShapeError(f"bottoms must have one shape, not {shapes(bottoms)}")
        if self.coeff and self.operation != "SUM":
            raise ShapeError(f"coeff goes with SUM, not {self.operation}", field="coeff")
        if self.coeff and len(self.coeff) != len(bottoms):
            raise ShapeError(
                f"{len(self.coeff)} coefficients for {len(bottoms)} bottoms", field="coeff"
            )
        return (first,)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        op = context.op
        combine = {"SUM": op.Add, "PROD": op.Mul, "MAX": op.Max}[self.operation]
        terms = [
            x if factor == 1 else op.Mul(x, op.scalar(factor))
            for x, factor in zip(bottoms, self.coeff or (1,) * len(bottoms), strict=True)
        ]
        return (reduce(combine, terms),)
