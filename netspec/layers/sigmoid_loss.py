"""Sigmoid loss: cross entropy of independent yes-or-no targets."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import model_validator

from netspec.ir.fields import Flag, Int
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, Role, Types, Values
from netspec.ir.normalization import Normalization, folded, normalized
from netspec.ir.paired import paired, shaped
from netspec.ir.types import TensorType
from netspec.layers.sigmoid import Sigmoid


class SigmoidLoss(Layer):
    """y = -Σ (t·log σ(x) + (1 - t)·log(1 - σ(x))) / n, of scores x and targets t from 0 to 1.

    n is as `normalization` says (Caffe, `sigmoid_cross_entropy_loss_layer.cpp`).
    """

    keyword: ClassVar = "sigmoid_loss"
    caffe: ClassVar = CaffeType(
        "SigmoidCrossEntropyLoss", "loss_param", "SIGMOID_CROSS_ENTROPY_LOSS"
    )
    role: ClassVar = Role.LOSS
    bottoms: ClassVar = range(2, 3)
    counts_labels: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 3x32x32 }
        input "attributes" { shape: 5 }
        fc "scores" { bottom: "data"  num_output: 5 }
        sigmoid_loss { bottom: "scores"  bottom: "attributes" }
    """

    ignore_label: Int | None = None
    """The target of cells that do not count."""
    normalization: Normalization = "BATCH_SIZE"
    """What the sum is divided by: cells that are not ignored, all cells, samples, or nothing."""
    normalize: Flag | None = None
    """Caffe's older word: true is `normalization: VALID`, false BATCH_SIZE."""

    @model_validator(mode="before")
    @classmethod
    def _fold(cls, data: Any) -> Any:
        return folded(data)

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        return paired(bottoms)

    def deploy(self) -> Sigmoid:
        return Sigmoid()

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x, target), op = bottoms, context.op
        target = shaped(op, target, x)
        # (x + |x|)/2 - x·t + log(1 + exp(-|x|)): nothing overflows, and where the slope of |x|
        # jumps, that of the sum does not, so that 0 there gives σ(0) - t.
        size = op.Abs(x)
        above = op.Mul(op.Add(x, size), op.scalar(0.5))
        rest = op.Log(op.Add(op.Exp(op.Neg(size)), op.scalar(1)))
        each = op.Add(op.Sub(above, op.Mul(x, target)), rest)
        counts = None
        if self.ignore_label is not None:
            ignored = op.Equal(target, op.scalar(self.ignore_label))
            counts = op.Cast(op.Not(ignored), to="float32")
        return (normalized(op, each, counts, self.normalization),)
