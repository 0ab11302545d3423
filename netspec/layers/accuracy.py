"""Accuracy: how often the label is among the highest scores."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.fields import Positive
from netspec.ir.graph import Ops, Value
from netspec.ir.labelled import Labelled
from netspec.ir.layer import CaffeType, Context, Role, ShapeError, Types, Values, axis_of
from netspec.ir.normalization import normalized
from netspec.ir.several_tops import SeveralTops
from netspec.ir.types import TensorType


class Accuracy(Labelled, SeveralTops):
    """y = the share of labels with #{j: x[j] ≥ x[label]} ≤ top_k (Caffe, `accuracy_layer.cpp`).

    Ties count against the label, so equal scores are all wrong; so is a score that is not a number.
    A second top has the share for each class, 0 for one without labels.
    """

    keyword: ClassVar = "accuracy"
    caffe: ClassVar = CaffeType("Accuracy", "accuracy_param", "ACCURACY")
    role: ClassVar = Role.METRIC
    tops: ClassVar = range(1, 3)
    example: ClassVar = """
        input "data" { shape: 1x28x28 }
        fc "scores" { num_output: 10 }
        accuracy "top5" { top_k: 5 }
    """

    top_k: Positive = 1
    """How many of the highest scores may be the label's."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        tops = super().infer(bottoms)
        classes = bottoms[0].shape[axis_of(self.axis, bottoms[0])]
        if self.top_k > classes:
            raise ShapeError(f"top_k {self.top_k} of {classes} classes", field="top_k")
        return (*tops, bottoms[0].with_shape(classes))[: max(1, self._count)]

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (scores, label), op = bottoms, context.op
        axis = op.ints(axis_of(self.axis, scores.type))
        label = self._label(op, scores, label)
        hot = op.Cast(self._one_hot(op, scores, label), to="bool")
        # A product with the one-hot would let an infinite score elsewhere make the label's NaN.
        own = op.ReduceSum(op.Where(hot, scores, op.scalar(0)), axis, keepdims=1)
        above = op.Cast(op.GreaterOrEqual(scores, own), to="float32")
        rank = self._over_classes(op, above)
        # The label's score is at least itself, unless it is not a number: then its rank is 0.
        right = op.And(
            op.GreaterOrEqual(rank, op.scalar(1)), op.LessOrEqual(rank, op.scalar(self.top_k))
        )
        right = op.Cast(right, to="float32")
        counts = self._counts(op, label)
        share = normalized(op, right, counts, "VALID")
        return (share, self._per_class(op, scores, label, right, counts))[: self._count]

    def _per_class(
        self, op: Ops, scores: Value, label: Value, right: Value, counts: Value | None
    ) -> Value:
        """The share of right ones among the labels of each class; a row per position."""
        classes = scores.type.shape[axis_of(self.axis, scores.type)]
        depth, off_on = op.scalar(classes, "int64"), _off_on(op)
        hot = op.Reshape(op.OneHot(label, depth, off_on, axis=-1), op.ints(-1, classes))
        if counts is not None:
            hot = op.Mul(hot, op.Reshape(counts, op.ints(-1, 1)))
        found = op.ReduceSum(op.Mul(hot, op.Reshape(right, op.ints(-1, 1))), op.ints(0), keepdims=0)
        number = op.ReduceSum(hot, op.ints(0), keepdims=0)
        share: Value = op.Div(found, op.Max(number, op.scalar(1)))
        return share


def _off_on(op: Ops) -> Value:
    import numpy as np

    return op.constant(np.array([0, 1], np.float32))
