"""What losses and metrics over classes share: scores, and a label for each of their positions."""

from __future__ import annotations

from math import prod
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, model_validator

from netspec.ir.fields import Flag, Int, NonNegativeReal, Says, many
from netspec.ir.graph import Ops, Value
from netspec.ir.layer import Layer, Role, ShapeError, Types, axis_of, batched, numbers
from netspec.ir.normalization import Normalization, folded, normalized
from netspec.ir.phrases import reshape_samples
from netspec.ir.several_tops import SeveralTops
from netspec.ir.types import Shape, TensorType, occupied, size


class Labelled(Layer):
    """Scores along one axis, and a label for every position of the others.

    Labels may leave out axes of one cell, or have one where the classes stand: scores 10x1x1 take
    a label per sample, scores 21x32x32 take 32x32 or 1x32x32.
    """

    bottoms: ClassVar = range(2, 3)
    labels: ClassVar = frozenset({1})

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
        batched([label])
        if label.batch != scores.batch:
            raise ShapeError(f"scores for {scores.batch} samples, but labels for {label.batch}")
        if occupied(label.sample) != occupied(wanted[1:]):
            raise ShapeError(
                f"scores of {size(scores.sample)}, classes on axis {self.axis}, take "
                f"{size(occupied(wanted[1:]))} label{'s' * (prod(wanted[1:]) > 1)} per sample, "
                f"not {size(label.sample)}"
            )
        return (scores.with_shape(),)

    def _positions(self, scores: TensorType) -> Shape:
        """The shape of the scores without the axis of the classes."""
        axis = axis_of(self.axis, scores)
        return scores.shape[:axis] + scores.shape[axis + 1 :]

    def _label(self, op: Ops, scores: Value, label: Value) -> Value:
        """The labels, in the shape of the positions."""
        return reshape_samples(op, label, *self._positions(scores.type)[1:])

    def _one_hot(
        self, op: Ops, scores: Value, label: Value, *, on: float = 1, off: float = 0
    ) -> Value:
        """In the shape of the scores: `on` at the label's class, else `off`."""
        import numpy as np

        off_on = np.array([off, on], np.float32)
        axis = axis_of(self.axis, scores.type)
        depth = op.scalar(scores.type.shape[axis], "int64")
        hot: Value = op.OneHot(label, depth, op.constant(off_on), axis=axis)
        return hot

    def _over_classes(self, op: Ops, x: Value) -> Value:
        """Σ over the axis of the classes, which vanishes.

        Where positions lie behind it, `keepdims` lets a target see which axis goes: CUDA has no
        fast kernel for one in the middle.
        """
        axis = axis_of(self.axis, x.type)
        total: Value
        if prod(x.type.shape[axis + 1 :]) == 1:
            total = op.ReduceSum(x, op.ints(axis), keepdims=0)
        else:
            total = op.Squeeze(op.ReduceSum(x, op.ints(axis), keepdims=1), op.ints(axis))
        return total

    def _counts(self, op: Ops, label: Value) -> Value | None:
        """1 where a position counts, 0 where its label is ignored; None if all count."""
        if self.ignore_label is None:
            return None
        ignored = op.Equal(label, op.scalar(self.ignore_label, "int64"))
        counts: Value = op.Cast(op.Not(ignored), to="float32")
        return counts


class LabelledLoss(Labelled):
    """A loss at every position, and what their sum is divided by."""

    role: ClassVar = Role.LOSS

    normalization: Normalization = "VALID"
    """What the sum is divided by: labels that are not ignored, all labels, samples, or nothing."""
    class_weight: Annotated[
        tuple[NonNegativeReal, ...], BeforeValidator(many), Says("numbers from 0, one per class")
    ] = ()
    """w, what each class weighs, 1 unless given; a VALID n is then the weights of the labels."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        tops = super().infer(bottoms)
        classes = bottoms[0].shape[axis_of(self.axis, bottoms[0])]
        if self.class_weight and len(self.class_weight) != classes:
            message = f"{len(self.class_weight)} weights for {classes} classes"
            raise ShapeError(message, field="class_weight")
        return tops

    def _normalized(self, op: Ops, each: Value, label: Value, shares: Value | None = None) -> Value:
        """The losses of all positions as one number.

        `shares` are the weights of the labels, where the losses are weighed already.
        """
        if self.class_weight and shares is None:
            shares = self._shares(op, label)
            each = op.Mul(each, shares)
        counts, samples = self._counts(op, label), self._samples(len(each.type.shape))
        return normalized(op, each, counts, self.normalization, shares, samples=samples)

    def _shares(self, op: Ops, label: Value) -> Value:
        """The weight of each position's label.

        By a product with the one-hot, which takes labels that are ignored whatever they are.
        """
        import numpy as np

        depth, off_on = op.scalar(len(self.class_weight), "int64"), np.array([0, 1], np.float32)
        hot = op.OneHot(label, depth, op.constant(off_on), axis=-1)
        own = op.Mul(hot, op.constant(np.array(self.class_weight, np.float32)))
        shares: Value = op.ReduceSum(own, op.ints(len(label.type.shape)), keepdims=0)
        return shares

    def _samples(self, positions: int) -> int:
        """How many of the axes of the positions count the samples of BATCH_SIZE."""
        return min(1, positions)


class ProbabilityLoss(LabelledLoss, SeveralTops):
    """A loss of what a softmax makes of scores, which a second top puts out."""

    tops: ClassVar = range(1, 3)

    normalize: Flag | None = None
    """Caffe's older word: true is `normalization: VALID`, false BATCH_SIZE."""

    @model_validator(mode="before")
    @classmethod
    def _fold(cls, data: Any) -> Any:
        return folded(data)

    def _samples(self, positions: int) -> int:
        """Caffe's softmax takes all axes before the classes."""
        return max(1, self.axis if self.axis > 0 else self.axis + positions + 1)

    def _with_probabilities(self, scores: TensorType, loss: TensorType) -> tuple[TensorType, ...]:
        """The types of the tops."""
        return (loss, scores)[: max(1, self._count)]
