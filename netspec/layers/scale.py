"""Scale: a bottom is multiplied, by learned values or by another bottom."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.fields import Flag
from netspec.ir.filler import Filler
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, ShapeError, Types, Values, Weight
from netspec.ir.spanning import Spanning
from netspec.ir.types import TensorType


class Scale(Spanning):
    """y = x · a + b, a and b of the shape of some consecutive axes of x (Caffe, `scale_layer.cpp`).

    With one bottom a is learned, and so is b if `bias_term` is set; with two, the second is a: a
    value per sample and channel, as squeeze-and-excitation gates are, takes `axis: 0`.
    """

    keyword: ClassVar = "scale"
    caffe: ClassVar = CaffeType("Scale", "scale_param")
    example: ClassVar = """
        input "data" { shape: 3x32x32 }
        scale { bias_term: true }
    """

    filler: Filler = Filler(value=1.0)
    """How a is initialised."""
    bias_term: Flag = False
    """Whether b is learned; b has the shape of a."""
    bias_filler: Filler = Filler()
    """How b is initialised."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        tops = super().infer(bottoms)
        if len(bottoms) == 2 and self.bias_term:
            raise ShapeError("a learned bias needs a learned scale", field="bias_term")
        return tops

    def weights(self, bottoms: Types) -> tuple[Weight, ...]:
        if len(bottoms) == 2:
            return ()
        shape = self._learned(bottoms[0])
        weight = Weight("weight", shape, self.filler)
        if not self.bias_term:
            return (weight,)
        return weight, Weight("bias", shape, self.bias_filler)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        op = context.op
        factor, *bias = self._aligned(op, bottoms, weights)
        y = op.Mul(bottoms[0], factor)
        return (op.Add(y, bias[0]) if bias else y,)
