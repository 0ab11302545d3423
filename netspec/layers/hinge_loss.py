"""Hinge loss: scores on the wrong side of a margin, as support vector machines count them."""

from __future__ import annotations

from typing import ClassVar, Literal

from netspec.ir.fields import Flag, NonNegativeReal
from netspec.ir.graph import Value
from netspec.ir.labelled import LabelledLoss
from netspec.ir.layer import CaffeType, Context, Values, axis_of
from netspec.ir.normalization import Normalization


class HingeLoss(LabelledLoss):
    """y = Σⱼ max(0, margin - δⱼ·sⱼ)ᵖ / n, δ = 1 for the label's class, else -1: one class against
    all others (Caffe, `hinge_loss_layer.cpp`).

    With `multiclass`, y = Σⱼ max(0, sⱼ - s[label] + margin)ᵖ / n over all j but the label: the
    support vector machine of Weston and Watkins (1999) that Stanford's CS231n teaches. p is 1 or 2.
    """

    keyword: ClassVar = "hinge_loss"
    caffe: ClassVar = CaffeType("HingeLoss", "hinge_loss_param", "HINGE_LOSS")
    example: ClassVar = """
        input "data" { shape: 3x32x32 }
        fc "scores" { num_output: 10 }
        hinge_loss { multiclass: true }
    """

    norm: Literal["L1", "L2"] = "L1"
    """Whether each term counts as it is, or squared."""
    multiclass: Flag = False
    """Whether scores are compared with the label's own, instead of with 0."""
    margin: NonNegativeReal = 1.0
    """By how much a score must be on the right side."""
    normalization: Normalization = "BATCH_SIZE"
    """What the sum is divided by: labels that are not ignored, all labels, samples, or nothing."""

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (scores, label), op = bottoms, context.op
        axis = op.ints(axis_of(self.axis, scores.type))
        label = self._label(op, scores, label)
        if self.multiclass:
            hot = self._one_hot(op, scores, label)
            own = op.ReduceSum(op.Mul(scores, hot), axis, keepdims=1)
            # At the label itself the difference is 0, and so must the margin be.
            margin = self._one_hot(op, scores, label, on=0, off=self.margin)
            short = op.Add(op.Sub(scores, own), margin)
        else:
            sign = self._one_hot(op, scores, label, on=-1, off=1)
            short = op.Add(op.Mul(scores, sign), op.scalar(self.margin))
        term = op.Relu(short)
        if self.norm == "L2":
            term = op.Mul(term, term)
        each = self._over_classes(op, term)
        return (self._normalized(op, each, label),)
