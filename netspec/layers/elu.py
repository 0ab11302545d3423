"""ELU: negative cells bend smoothly towards a floor."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.fields import Real
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, Types, Values, numbers
from netspec.ir.types import TensorType


class ELU(Layer):
    """y = x where x > 0, else alpha · (exp(x) - 1) (Clevert et al. 2015, arXiv:1511.07289)."""

    keyword: ClassVar = "elu"
    caffe: ClassVar = CaffeType("ELU", "elu_param")
    in_place: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 10 }
        elu { alpha: 0.5 }
    """

    alpha: Real = 1.0
    """What negative cells approach, with the sign changed."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        return (x,)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,) = bottoms
        return (context.op.Elu(x, alpha=self.alpha),)
