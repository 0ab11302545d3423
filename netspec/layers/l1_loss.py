"""L1 loss: how far two blobs are apart, value by value, for regression."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, Role, Types, Values
from netspec.ir.paired import batch_mean, paired, sample_sum, shaped
from netspec.ir.types import TensorType


class L1Loss(Layer):
    """y = Σ |a - b| / n over n samples (`l1_loss_layer.cpp` of NVIDIA's fork of Caffe).

    Both bottoms may be computed: the gradient goes to each.
    """

    keyword: ClassVar = "l1_loss"
    caffe: ClassVar = CaffeType("L1Loss")
    role: ClassVar = Role.LOSS
    bottoms: ClassVar = range(2, 3)
    example: ClassVar = """
        input "data" { shape: 3x32x32 }
        input "box" { shape: 4 }
        fc "fc_box" { bottom: "data"  num_output: 4 }
        l1_loss { bottom: "fc_box"  bottom: "box" }
    """

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        return paired(bottoms)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (a, b), op = bottoms, context.op
        distance = op.Abs(op.Sub(a, shaped(op, b, a)))
        return (batch_mean(op, sample_sum(op, distance)),)
