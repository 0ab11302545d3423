"""Hard swish: swish with a sigmoid of three straight lines."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.graph import Value
from netspec.ir.layer import Context, Layer, Types, Values, numbers
from netspec.ir.phrases import relu6
from netspec.ir.types import TensorType


class HardSwish(Layer):
    """y = x · min(max(x + 3, 0), 6) / 6 (Howard et al. 2019, arXiv:1905.02244)."""

    keyword: ClassVar = "hard_swish"
    in_place: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 10 }
        hard_swish
    """

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        return (x,)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), op = bottoms, context.op
        gate = op.Mul(relu6(op, op.Add(x, op.scalar(3.0))), op.scalar(1 / 6))
        return (op.Mul(x, gate),)
