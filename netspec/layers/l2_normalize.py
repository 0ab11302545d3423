"""L2 normalisation: the channels of every cell become a vector of length 1."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.fields import Flag, PositiveReal
from netspec.ir.filler import Filler
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, ShapeError, Types, Values, Weight, numbers
from netspec.ir.phrases import reshape
from netspec.ir.types import TensorType


class L2Normalize(Layer):
    """y = a · x / √(Σ x² + eps), the sum over the channels of a cell, a = 1 unless learned.

    Source: ParseNet, Liu et al. 2015, arXiv:1506.04579; `Normalize` in SSD's fork of Caffe.
    """

    keyword: ClassVar = "l2_normalize"
    caffe: ClassVar = CaffeType("Normalize", "norm_param")
    example: ClassVar = """
        input "data" { shape: 3x32x32 }
        conv { num_output: 16  kernel_size: 3 }
        l2_normalize { scale: true  scale_filler { value: 20 } }
    """

    across_spatial: Flag = False
    """Whether the sum is over the whole image, not over each cell's channels."""
    eps: PositiveReal = 1e-10
    """Added to the sum."""
    scale: Flag = False
    """Whether a is learned."""
    channel_shared: Flag = False
    """Whether all channels share one a."""
    scale_filler: Filler = Filler(value=1.0)
    """How a is initialised."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        if len(x.shape) < 2:
            raise ShapeError("takes channels, not one number per sample")
        for field in ("channel_shared", "scale_filler"):
            if field in self.model_fields_set and not self.scale:
                raise ShapeError(f"{field} goes with scale: true", field=field, hint="scale: true")
        return (x,)

    def weights(self, bottoms: Types) -> tuple[Weight, ...]:
        (x,) = bottoms
        if not self.scale:
            return ()
        return (Weight("weight", () if self.channel_shared else (x.channels,), self.scale_filler),)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), op = bottoms, context.op
        axes = range(1, len(x.type.shape) if self.across_spatial else 2)
        square = op.ReduceSum(op.Mul(x, x), op.ints(*axes), keepdims=1)
        y = op.Mul(x, op.Reciprocal(op.Sqrt(op.Add(square, op.scalar(self.eps)))))
        if not weights:
            return (y,)
        (factor,) = weights
        ones = () if self.channel_shared else (1,) * len(x.type.spatial)
        return (op.Mul(y, reshape(op, factor, *factor.type.shape, *ones)),)
