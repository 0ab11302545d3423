"""Infogain loss: a softmax loss that knows how much each class is worth in place of another."""

from __future__ import annotations

from math import prod
from typing import ClassVar

from netspec.ir.fields import Reals
from netspec.ir.graph import Ops, Value
from netspec.ir.labelled import ProbabilityLoss
from netspec.ir.layer import (
    CaffeType,
    Context,
    ShapeError,
    Types,
    Values,
    axis_of,
    batched,
    numbers,
)
from netspec.ir.types import TensorType, occupied, size
from netspec.layers.softmax import Softmax


class InfogainLoss(ProbabilityLoss):
    """y = -Σ Σₖ H[label, k]·log softmax(x)[k] / n, of scores x (Caffe, `infogain_loss_layer.cpp`).

    H is the field `infogain`, or a third bottom: one matrix, or one per sample. With the identity
    this is `softmax_loss`; a second top is softmax(x). Caffe's floor under the probability, 1e-20,
    is left out.
    """

    keyword: ClassVar = "infogain_loss"
    caffe: ClassVar = CaffeType("InfogainLoss", "infogain_loss_param", "INFOGAIN_LOSS")
    bottoms: ClassVar = range(2, 4)
    example: ClassVar = """
        input "data" { shape: 64 }
        fc "scores" { num_output: 3 }
        infogain_loss {
          infogain: [2.0, 0.0, 0.0]       # the first class counts twice
          infogain: [0.0, 1.0, 0.0]
          infogain: [0.0, 0.1, 0.9]       # the last may pass for the second
        }
    """

    infogain: Reals = ()
    """H, row by row: what each class is worth where the label is the row's."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        scores, label, *matrix = bottoms
        tops = super().infer([scores, label])
        classes = scores.shape[axis_of(self.axis, scores)]
        if matrix and self.infogain:
            raise ShapeError("H is a third bottom or `infogain`, not both", field="infogain")
        if matrix:
            (given,) = numbers(matrix)
            if not self._one_for_all(given, classes):
                self._check_each(given, scores, classes)
        elif not self.infogain:
            raise ShapeError("needs its matrix H: `infogain: […]` row by row, or a third bottom")
        elif len(self.infogain) != classes**2:
            square = f"{classes} classes take {classes}x{classes}"
            message = f"{len(self.infogain)} values in infogain, but {square}"
            raise ShapeError(message, field="infogain")
        return self._with_probabilities(scores, *tops)

    def _one_for_all(self, given: TensorType, classes: int) -> bool:
        """Whether a third bottom is Caffe's: the whole of it one matrix."""
        return given.numel == classes**2 and occupied(given.shape) == occupied((classes,) * 2)

    def _check_each(self, given: TensorType, scores: TensorType, classes: int) -> None:
        """A ShapeError unless the third bottom is a matrix for each sample."""
        batched([given])
        if given.batch != scores.batch:
            message = f"scores for {scores.batch} samples, but matrices for {given.batch}"
            raise ShapeError(message)
        if occupied(given.sample) != occupied((classes, classes)):
            square = f"{classes} classes take {classes}x{classes}"
            raise ShapeError(f"the third bottom is {size(given.sample)}, but {square}")

    def deploy(self) -> Softmax:
        return Softmax(axis=self.axis)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (scores, label, *matrix), op = bottoms, context.op
        axis = axis_of(self.axis, scores.type)
        label = self._label(op, scores, label)
        worth = self._worth(op, scores, label, *matrix)
        logarithm = op.LogSoftmax(scores, axis=axis)
        each = op.Neg(self._over_classes(op, op.Mul(logarithm, worth)))
        loss = self._normalized(op, each, label)
        return (loss, op.Exp(logarithm))[: self._count]

    def _worth(self, op: Ops, scores: Value, label: Value, matrix: Value | None = None) -> Value:
        """H[label], a row at each position, in the shape of the scores.

        By a product with the one-hot, which takes labels that are ignored whatever they are.
        """
        import numpy as np

        axis = axis_of(self.axis, scores.type)
        positions, classes = label.type.sample, scores.type.shape[axis]
        depth, off_on = op.scalar(classes, "int64"), np.array([0, 1], np.float32)
        hot = op.OneHot(label, depth, op.constant(off_on), axis=-1)
        if matrix is None:
            array = np.array(self.infogain, np.float32).reshape(classes, classes)
            matrix = op.constant(array)
        elif self._one_for_all(matrix.type, classes):
            matrix = op.Reshape(matrix, op.ints(classes, classes))
        else:
            matrix = op.Reshape(matrix, op.ints(0, classes, classes))
        rows = op.MatMul(op.Reshape(hot, op.ints(0, prod(positions), classes)), matrix)
        rows = op.Reshape(rows, op.ints(0, *positions, classes))
        order = [*range(len(positions) + 1)]
        order.insert(axis, len(positions) + 1)
        worth: Value = op.Transpose(rows, perm=tuple(order))
        return worth
