"""Infogain loss: a softmax loss that knows how much each class is worth in place of another."""

from __future__ import annotations

from math import prod
from typing import ClassVar

from netspec.ir.fields import Reals
from netspec.ir.graph import Ops, Value
from netspec.ir.labelled import LabelledLoss
from netspec.ir.layer import CaffeType, Context, ShapeError, Types, Values, axis_of, numbers
from netspec.ir.normalization import normalized
from netspec.ir.types import TensorType, occupied, size
from netspec.layers.softmax import Softmax


class InfogainLoss(LabelledLoss):
    """y = -Σ Σₖ H[label, k]·log softmax(x)[k] / n, of scores x (Caffe, `infogain_loss_layer.cpp`).

    H is the field `infogain`, or a third bottom: one matrix per sample. With the identity this is
    `softmax_loss`. Caffe's floor under the probability, 1e-20, is left out.
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
        square = f"{classes} classes take {classes}x{classes}"
        if matrix and self.infogain:
            raise ShapeError("H is a third bottom or `infogain`, not both", field="infogain")
        if matrix:
            (given,) = numbers(matrix)
            if given.batch != scores.batch:
                message = f"scores for {scores.batch} samples, but matrices for {given.batch}"
                raise ShapeError(message)
            if occupied(given.sample) != occupied((classes, classes)):
                raise ShapeError(f"the third bottom is {size(given.sample)}, but {square}")
        elif not self.infogain:
            raise ShapeError("needs its matrix H: `infogain: […]` row by row, or a third bottom")
        elif len(self.infogain) != classes**2:
            message = f"{len(self.infogain)} values in infogain, but {square}"
            raise ShapeError(message, field="infogain")
        return tops

    def deploy(self) -> Softmax:
        return Softmax(axis=self.axis)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (scores, label, *matrix), op = bottoms, context.op
        axis = axis_of(self.axis, scores.type)
        label = self._label(op, scores, label)
        worth = self._worth(op, scores, label, *matrix)
        picked = op.Mul(op.LogSoftmax(scores, axis=axis), worth)
        each = op.Neg(self._over_classes(op, picked))
        return (normalized(op, each, self._counts(op, label), self.normalization),)

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
        else:
            matrix = op.Reshape(matrix, op.ints(0, classes, classes))
        rows = op.MatMul(op.Reshape(hot, op.ints(0, prod(positions), classes)), matrix)
        rows = op.Reshape(rows, op.ints(0, *positions, classes))
        order = [*range(len(positions) + 1)]
        order.insert(axis, len(positions) + 1)
        worth: Value = op.Transpose(rows, perm=tuple(order))
        return worth
