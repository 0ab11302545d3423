"""Triplet loss: an anchor is to be nearer to its like than to another."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.fields import NonNegativeReal
from netspec.ir.graph import Value
from netspec.ir.layer import Context, Layer, Role, Types, Values
from netspec.ir.paired import batch_mean, paired, squared_distance
from netspec.ir.types import TensorType


class TripletLoss(Layer):
    """y = Σ max(0, ‖a - p‖² - ‖a - n‖² + margin) / samples, of the bottoms anchor a, positive p,
    negative n (FaceNet: Schroff et al. 2015, arXiv:1503.03832, eq. 2).

    Deployed, the anchor is the result.
    """

    keyword: ClassVar = "triplet_loss"
    role: ClassVar = Role.LOSS
    bottoms: ClassVar = range(3, 4)
    example: ClassVar = """
        input "data" { shape: 64 }
        input "positive" { shape: 64 }
        input "negative" { shape: 64 }
        fc "a" { bottom: "data"      num_output: 8  param { name: "w" }  param { name: "b" } }
        fc "p" { bottom: "positive"  num_output: 8  param { name: "w" }  param { name: "b" } }
        fc "n" { bottom: "negative"  num_output: 8  param { name: "w" }  param { name: "b" } }
        triplet_loss { bottom: "a"  bottom: "p"  bottom: "n" }
    """

    margin: NonNegativeReal = 0.2
    """By how much the negative must be farther away, in squared distance."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        return paired(bottoms)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (anchor, positive, negative), op = bottoms, context.op
        near = squared_distance(op, anchor, positive)
        far = squared_distance(op, anchor, negative)
        return (batch_mean(op, op.Relu(op.Add(op.Sub(near, far), op.scalar(self.margin)))),)
