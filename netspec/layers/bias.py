"""Bias: something is added to a bottom, learned values or another bottom."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.filler import Filler
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Types, Values, Weight
from netspec.ir.spanning import Spanning


class Bias(Spanning):
    """y = x + b, b of the shape of some consecutive axes of x (Caffe, `bias_layer.cpp`).

    With one bottom b is learned; with two, the second is b, and takes `axis: 0`.
    """

    keyword: ClassVar = "bias"
    caffe: ClassVar = CaffeType("Bias", "bias_param")
    example: ClassVar = """
        input "data" { shape: 3x32x32 }
        bias
    """

    filler: Filler = Filler()
    """How b is initialised."""

    def weights(self, bottoms: Types) -> tuple[Weight, ...]:
        if len(bottoms) == 2:
            return ()
        return (Weight("bias", self._learned(bottoms[0]), self.filler),)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (b,) = self._aligned(context.op, bottoms, weights)
        return (context.op.Add(bottoms[0], b),)
