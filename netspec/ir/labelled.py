"""What losses and metrics over classes share: scores, and a label for each of their positions."""

from __future__ import annotations

from math import prod
from typing import ClassVar

from netspec.ir.fields import Int
from netspec.ir.graph import Ops, Value
from netspec.ir.layer import Layer, ShapeError, Types, axis_of, numbers
from netspec.ir.types import Shape, TensorType, size


class Labelled(Layer):
    """Scores along one axis, and a label for every position of the others.

    Labels may leave out axes of one cell, or have one where the classes stand: scores 10x1x1 take
    a label per sample, scores 21x32x32 take 32x32 or 1x32x32.
    """

    bottoms: ClassVar = range(2, 3)

    axis: Int = 1
    """The axis of the classes; the batch is axis 0."""
    ignore_label: Int | None = None
    """The label of positions that do not count."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        scores, label = bottoms
        numbers([scores])
        wanted = self._positions(scores)
        if label.dtype != "int64":
            raise ShapeError(f"the second bottom must hold labels, not {label}")
        if label.batch != scores.batch:
            raise ShapeError(f"scores for {scores.batch} samples, but labels for {label.batch}")
        if _occupied(label.sample) != _occupied(wanted[1:]):
            raise ShapeError(
                f"scores of {size(scores.sample)}, classes on axis {self.axis}, take "
                f"{size(_occupied(wanted[1:]))} label{'s' * (prod(wanted[1:]) > 1)} per sample, "
                f"not {size(label.sample)}"
            )
        return (scores.with_shape(),)

    def _positions(self, scores: TensorType) -> Shape:
        """The shape of the scores without the axis of the classes."""
        axis = axis_of(self.axis, scores)
        return scores.shape[:axis] + scores.shape[axis + 1 :]

    def _label(self, op: Ops, scores: Value, label: Value) -> Value:
        """The labels, in the shape of the positions."""
        positions = self._positions(scores.type)
        if label.type.shape == positions:
            return label
        reshaped: Value = op.Reshape(label, op.ints(0, *positions[1:]))
        return reshaped

    def _one_hot(self, op: Ops, scores: Value, label: Value) -> Value:
        """In the shape of the scores: 1 at the label's class, else 0."""
        import numpy as np

        off_on = np.array([0, 1], np.float32)
        axis = axis_of(self.axis, scores.type)
        depth = op.scalar(scores.type.shape[axis], "int64")
        hot: Value = op.OneHot(label, depth, op.constant(off_on), axis=axis)
        return hot

    def _counts(self, op: Ops, label: Value) -> Value | None:
        """1 where a position counts, 0 where its label is ignored; None if all count."""
        if self.ignore_label is None:
            return None
        ignored = op.Equal(label, op.scalar(self.ignore_label, "int64"))
        counts: Value = op.Cast(op.Not(ignored), to="float32")
        return counts

    def _mean(self, op: Ops, each: Value, counts: Value | None) -> Value:
        """The mean over the positions that count, and 0 if none does."""
        axes = op.ints(*range(len(each.type.shape)))
        mean: Value
        if counts is None:
            mean = op.ReduceMean(each, axes, keepdims=0)
        else:
            total = op.ReduceSum(op.Mul(each, counts), axes, keepdims=0)
            number = op.ReduceSum(counts, axes, keepdims=0)
            mean = op.Div(total, op.Max(number, op.scalar(1)))
        return mean


def _occupied(extent: Shape) -> Shape:
    """The axes that hold more than one cell."""
    return tuple(n for n in extent if n > 1)
