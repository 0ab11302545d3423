"""Mean-variance normalisation: every channel of every image gets mean 0 and variance 1."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.fields import Flag, PositiveReal
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, ShapeError, Types, Values, numbers
from netspec.ir.types import TensorType, size


class MVN(Layer):
    """y = (x - mean) / (σ + eps), mean and σ of the cells of one channel of one image.

    σ is biased: the mean square is over all cells, not one less (Caffe, `mvn_layer.cpp`).
    """

    keyword: ClassVar = "mvn"
    caffe: ClassVar = CaffeType("MVN", "mvn_param", "MVN")
    in_place: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 3x32x32 }
        mvn { across_channels: true }
    """

    normalize_variance: Flag = True
    """Whether to divide by σ, or only to take the mean away."""
    across_channels: Flag = False
    """Whether mean and σ are of all channels together."""
    eps: PositiveReal = 1e-9
    """Added to σ."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        cells = x.sample if self.across_channels else x.spatial
        if max(cells, default=1) == 1:
            what = "image" if self.across_channels else "channel"
            raise ShapeError(f"one cell per {what} in {size(x.sample)}: a variance needs two")
        return (x,)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), op = bottoms, context.op
        axes = op.ints(*range(1 if self.across_channels else 2, len(x.type.shape)))
        centred = op.Sub(x, op.ReduceMean(x, axes, keepdims=1))
        if not self.normalize_variance:
            return (centred,)
        variance = op.ReduceMean(op.Mul(centred, centred), axes, keepdims=1)
        # The least of normal numbers keeps the slope of the root finite where all cells are equal.
        deviation = op.Sqrt(op.Add(variance, op.scalar(2.0**-126)))
        return (op.Div(centred, op.Add(deviation, op.scalar(self.eps))),)
