"""Group normalisation: groups of channels get mean 0 and variance 1, image by image."""

from __future__ import annotations

from math import prod
from typing import ClassVar

from netspec.ir.fields import Flag, Positive, PositiveReal
from netspec.ir.filler import Filler
from netspec.ir.graph import Value
from netspec.ir.layer import Context, Layer, ShapeError, Types, Values, Weight, numbers
from netspec.ir.phrases import reshape
from netspec.ir.types import TensorType, size


class GroupNorm(Layer):
    """y = (x - mean) / √(variance + eps) · weight + bias (Wu & He 2018, arXiv:1803.08494).

    Mean and biased variance are of a group's channels in one image, in TRAIN and TEST alike; weight
    and bias are per channel. One group is layer normalisation, one per channel instance
    normalisation.
    """

    keyword: ClassVar = "group_norm"
    in_place: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 3x32x32 }
        conv { num_output: 16  kernel_size: 3  bias_term: false }
        group_norm { groups: 4 }
        relu
    """

    groups: Positive = 32
    """How many groups the channels are in."""
    affine: Flag = True
    """Whether each channel is scaled and shifted by a learned weight and bias."""
    eps: PositiveReal = 1e-5
    """Added to the variance."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        if len(x.shape) < 2:
            raise ShapeError("takes channels, not one number per sample")
        if x.channels % self.groups:
            raise ShapeError(
                f"{self.groups} groups do not divide {x.channels} channels", field="groups"
            )
        if prod(x.sample) == self.groups:
            raise ShapeError(
                f"one cell per group in {size(x.sample)}: a variance needs two", field="groups"
            )
        return (x,)

    def weights(self, bottoms: Types) -> tuple[Weight, ...]:
        (x,) = bottoms
        if not self.affine:
            return ()
        shape = (x.channels,)
        return Weight("weight", shape, Filler(value=1.0)), Weight("bias", shape, Filler())

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), op, last = bottoms, context.op, context.op.ints(2)
        group = op.Reshape(x, op.ints(0, self.groups, prod(x.type.sample) // self.groups))
        centred = op.Sub(group, op.ReduceMean(group, last, keepdims=1))
        variance = op.ReduceMean(op.Mul(centred, centred), last, keepdims=1)
        inverse = op.Reciprocal(op.Sqrt(op.Add(variance, op.scalar(self.eps))))
        y = op.Reshape(op.Mul(centred, inverse), op.ints(0, *x.type.sample))
        if not weights:
            return (y,)
        ones = (1,) * len(x.type.spatial)
        weight, bias = (reshape(op, w, x.type.channels, *ones) for w in weights)
        return (op.Add(op.Mul(y, weight), bias),)
