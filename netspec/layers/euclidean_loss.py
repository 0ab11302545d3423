"""Euclidean loss: how far two blobs are apart, for regression."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, Role, Types, Values
from netspec.ir.paired import batch_mean, paired, squared_distance
from netspec.ir.types import TensorType


class EuclideanLoss(Layer):
    """y = Σ (a - b)² / 2n over n samples (Caffe, `euclidean_loss_layer.cpp`).

    Both bottoms may be computed: the gradient goes to each.
    """

    keyword: ClassVar = "euclidean_loss"
    caffe: ClassVar = CaffeType("EuclideanLoss", None, "EUCLIDEAN_LOSS")
    role: ClassVar = Role.LOSS
    bottoms: ClassVar = range(2, 3)
    counts_labels: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 3x32x32 }
        input "box" { shape: 4 }
        fc "fc_box" { bottom: "data"  num_output: 4 }
        euclidean_loss { bottom: "fc_box"  bottom: "box" }
    """

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        return paired(bottoms)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (a, b), op = bottoms, context.op
        return (op.Mul(batch_mean(op, squared_distance(op, a, b)), op.scalar(0.5)),)
