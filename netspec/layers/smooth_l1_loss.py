"""Smooth L1 loss: squared where a difference is small, absolute where it is large."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.fields import PositiveReal
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, Role, Types, Values
from netspec.ir.paired import batch_mean, paired, sample_sum, shaped
from netspec.ir.types import TensorType


class SmoothL1Loss(Layer):
    """y = Σ v·f(u·(a - b)) / n, f(d) = (σd)²/2 if |d| < 1/σ², else |d| - 1/(2σ²).

    n samples; a third bottom is u, a fourth v, each 1 unless given: the inside and outside weights
    of py-faster-rcnn (Girshick 2015, arXiv:1504.08083, eq. 3; `smooth_l1_loss_layer.cpp`).
    """

    keyword: ClassVar = "smooth_l1_loss"
    caffe: ClassVar = CaffeType("SmoothL1Loss", "smooth_l1_loss_param")
    role: ClassVar = Role.LOSS
    bottoms: ClassVar = range(2, 5)
    counts_labels: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 3x32x32 }
        input "box" { shape: 4 }
        fc "fc_box" { bottom: "data"  num_output: 4 }
        smooth_l1_loss { bottom: "fc_box"  bottom: "box"  sigma: 3 }
    """

    sigma: PositiveReal = 1.0
    """σ: differences count squared up to 1/σ²."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        return paired(bottoms)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (a, *others), op = bottoms, context.op
        b, *factors = (shaped(op, x, a) for x in others)
        square = self.sigma**2
        d = op.Sub(a, b)
        if factors:
            d = op.Mul(factors[0], d)
        # With c = d clipped to ±1/σ², σ²·c·(d - c/2) is f on both sides, and so is its gradient.
        c = op.Clip(d, op.scalar(-1 / square), op.scalar(1 / square))
        each = op.Mul(c, op.Sub(d, op.Mul(c, op.scalar(0.5))))
        if len(factors) == 2:
            each = op.Mul(factors[1], each)
        return (op.Mul(batch_mean(op, sample_sum(op, each)), op.scalar(square)),)
