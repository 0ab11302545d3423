"""Softmax loss: how surprised a softmax over the scores is by the labels."""

from __future__ import annotations

from typing import ClassVar, Literal

from netspec.ir.graph import Value
from netspec.ir.labelled import Labelled
from netspec.ir.layer import CaffeType, Context, Role, Values, axis_of
from netspec.layers.softmax import Softmax


class SoftmaxLoss(Labelled):
    """y = -Σ log softmax(x)[label] / n (Caffe, `softmax_loss_layer.cpp`).

    n is as `normalization` says. Caffe's floor under the probability, 1.2e-38, is left out: a loss
    beyond 87 is reported as it is.
    """

    keyword: ClassVar = "softmax_loss"
    caffe: ClassVar = CaffeType("SoftmaxWithLoss", "loss_param", "SOFTMAX_LOSS")
    role: ClassVar = Role.LOSS
    example: ClassVar = """
        input "data" { shape: 1x28x28 }
        fc "scores" { num_output: 10 }
        softmax_loss "loss"
    """

    normalization: Literal["VALID", "FULL", "BATCH_SIZE", "NONE"] = "VALID"
    """What n counts: labels that are not ignored, all labels, samples, or nothing (n = 1)."""

    def deploy(self) -> Softmax:
        return Softmax(axis=self.axis)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (scores, label), op = bottoms, context.op
        axis = axis_of(self.axis, scores.type)
        label = self._label(op, scores, label)
        picked = op.Mul(op.LogSoftmax(scores, axis=axis), self._one_hot(op, scores, label))
        each = op.Neg(op.ReduceSum(picked, op.ints(axis), keepdims=0))
        counts = self._counts(op, label)
        if self.normalization == "VALID":
            return (self._mean(op, each, counts),)
        if counts is not None:
            each = op.Mul(each, counts)
        batch, *positions = range(len(each.type.shape))
        if self.normalization == "FULL":
            return (op.ReduceMean(each, op.ints(batch, *positions), keepdims=0),)
        if positions:
            each = op.ReduceSum(each, op.ints(*positions), keepdims=0)
        reduce = op.ReduceMean if self.normalization == "BATCH_SIZE" else op.ReduceSum
        return (reduce(each, op.ints(batch), keepdims=0),)
