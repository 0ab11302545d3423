"""Softmax loss: how surprised a softmax over the scores is by the labels."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.fields import Share
from netspec.ir.graph import Ops, Value
from netspec.ir.labelled import ProbabilityLoss
from netspec.ir.layer import CaffeType, Context, Types, Values, axis_of
from netspec.ir.types import TensorType
from netspec.layers.softmax import Softmax


class SoftmaxLoss(ProbabilityLoss):
    """y = -Σ log softmax(x)[label] / n (Caffe, `softmax_loss_layer.cpp`).

    n is as `normalization` says; a second top is softmax(x). Caffe's floor under the probability,
    1.2e-38, is left out: a loss beyond 87 is reported as it is. Smoothing and weights are those of
    `torch.nn.CrossEntropyLoss`: -Σₖ ((1 - ε)·[k = label] + ε/classes)·wₖ·log softmax(x)[k].
    """

    keyword: ClassVar = "softmax_loss"
    caffe: ClassVar = CaffeType("SoftmaxWithLoss", "loss_param", "SOFTMAX_LOSS")
    example: ClassVar = """
        input "data" { shape: 1x28x28 }
        fc "scores" { num_output: 10 }
        softmax_loss "loss" { label_smoothing: 0.1 }
    """

    label_smoothing: Share = 0.0
    """ε, the share of the target that all classes have alike (Szegedy et al. 2016, §7)."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        return self._with_probabilities(bottoms[0], *super().infer(bottoms))

    def deploy(self) -> Softmax:
        return Softmax(axis=self.axis)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (scores, label), op = bottoms, context.op
        axis = axis_of(self.axis, scores.type)
        label = self._label(op, scores, label)
        logarithm = op.LogSoftmax(scores, axis=axis)
        even = self.label_smoothing / scores.type.shape[axis]
        target = self._one_hot(op, scores, label, on=1 - self.label_smoothing + even, off=even)
        shares = None
        if self.class_weight:
            weight = self._class_weight(op, scores)
            target = op.Mul(target, weight)
            own = op.Mul(self._one_hot(op, scores, label), weight)
            shares = self._over_classes(op, own)
        each = op.Neg(self._over_classes(op, op.Mul(logarithm, target)))
        loss = self._normalized(op, each, label, shares)
        return (loss, op.Exp(logarithm))[: self._count]

    def _class_weight(self, op: Ops, scores: Value) -> Value:
        """w along the axis of the classes."""
        import numpy as np

        behind = len(scores.type.shape) - 1 - axis_of(self.axis, scores.type)
        return op.constant(np.array(self.class_weight, np.float32).reshape(-1, *[1] * behind))
