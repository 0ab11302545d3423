"""PReLU: negative cells are scaled by a learned slope."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.fields import Flag
from netspec.ir.filler import Filler
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, ShapeError, Types, Values, Weight, numbers
from netspec.ir.types import TensorType


class PReLU(Layer):
    """y = max(x, 0) + a · min(x, 0), a learned per channel (He et al. 2015, arXiv:1502.01852)."""

    keyword: ClassVar = "prelu"
    caffe: ClassVar = CaffeType("PReLU", "prelu_param")
    in_place: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 3x32x32 }
        prelu
    """

    channel_shared: Flag = False
    """Whether all channels share one slope."""
    filler: Filler = Filler(value=0.25)
    """How the slopes are initialised."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        if len(x.shape) < 2:
            raise ShapeError("takes channels, not one number per sample")
        return (x,)

    def weights(self, bottoms: Types) -> tuple[Weight, ...]:
        (x,) = bottoms
        return (Weight("weight", () if self.channel_shared else (x.channels,), self.filler),)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), (slope,), op = bottoms, weights, context.op
        if x.type.spatial and not self.channel_shared:
            slope = op.Reshape(slope, op.ints(-1, *(1 for _ in x.type.spatial)))
        return (op.PRelu(x, slope),)
