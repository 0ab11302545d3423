"""Parameter: a learned tensor as a blob."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.fields import Extent
from netspec.ir.filler import Filler
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, Role, Types, Values, Weight, checked
from netspec.ir.types import TensorType


class Parameter(Layer):
    """y = W, learned like any other weight (Caffe, `parameter_layer.hpp`)."""

    keyword: ClassVar = "parameter"
    caffe: ClassVar = CaffeType("Parameter", "parameter_param")
    role: ClassVar = Role.SOURCE
    bottoms: ClassVar = range(1)
    example: ClassVar = """
        input "data" { shape: 3x8x8 }
        parameter "tint" { shape: 3x1 }
        reshape "by_channel" { bottom: "tint"  shape { dim: 3 } }
        scale { bottom: "data"  bottom: "by_channel" }
    """

    shape: Extent
    """All axes of the blob: there is no batch."""
    filler: Filler = Filler()
    """How it is initialised."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        return checked(TensorType(self.shape))

    def weights(self, bottoms: Types) -> tuple[Weight, ...]:
        return (Weight("weight", self.shape, self.filler),)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (weight,) = weights
        return (context.op.Identity(weight),)
