"""Multinomial logistic loss: how surprised given probabilities are by the labels."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.graph import Value
from netspec.ir.labelled import LabelledLoss
from netspec.ir.layer import CaffeType, Context, Values
from netspec.ir.normalization import Normalization

_FLOOR = 1e-20
"""The least probability that the logarithm sees (Caffe's `kLOG_THRESHOLD`)."""


class MultinomialLogisticLoss(LabelledLoss):
    """y = -Σ log max(p[label], 1e-20) / n, of probabilities p, such as a softmax gives (Caffe,
    `multinomial_logistic_loss_layer.cpp`).

    Below the floor the loss is flat and its gradient 0, where Caffe's is -1e20. `softmax_loss` is
    the same on scores, without a floor.
    """

    keyword: ClassVar = "multinomial_logistic_loss"
    caffe: ClassVar = CaffeType(
        "MultinomialLogisticLoss", "loss_param", "MULTINOMIAL_LOGISTIC_LOSS"
    )
    example: ClassVar = """
        input "data" { shape: 1x28x28 }
        fc { num_output: 10 }
        softmax "prob"
        multinomial_logistic_loss
    """

    normalization: Normalization = "BATCH_SIZE"
    """What the sum is divided by: labels that are not ignored, all labels, samples, or nothing."""

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (probabilities, label), op = bottoms, context.op
        label = self._label(op, probabilities, label)
        hot = self._one_hot(op, probabilities, label)
        own = self._over_classes(op, op.Mul(probabilities, hot))
        each = op.Neg(op.Log(op.Clip(own, op.scalar(_FLOOR))))
        return (self._normalized(op, each, label),)
