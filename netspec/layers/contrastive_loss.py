"""Contrastive loss: like pairs are to be near, unlike ones at least a margin apart."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.fields import Flag, NonNegativeReal
from netspec.ir.graph import Ops, Value
from netspec.ir.layer import CaffeType, Context, Layer, Role, Types, Values
from netspec.ir.paired import batch_mean, paired, per_sample, squared_distance
from netspec.ir.phrases import reshape_samples
from netspec.ir.types import TensorType

_NEAREST = 1e-30
"""Squared distances below it are no distance: the root would have no slope there."""


class ContrastiveLoss(Layer):
    """y = Σ (s·d² + (1 - s)·max(0, margin - d)²) / 2n, d = ‖a - b‖, s = 1 for a like pair, else 0.

    Bottoms a, b, and what says that a pair is alike: `label` or numbers, not 0 for alike (Hadsell
    et al. 2006; Caffe, `contrastive_loss_layer.cpp`). Equal bottoms that are to be unlike have no
    direction to part in, and a gradient of 0. Deployed, a is the result.
    """

    keyword: ClassVar = "contrastive_loss"
    caffe: ClassVar = CaffeType("ContrastiveLoss", "contrastive_loss_param", "CONTRASTIVE_LOSS")
    role: ClassVar = Role.LOSS
    bottoms: ClassVar = range(3, 4)
    example: ClassVar = """
        input "data" { shape: 64 }
        input "other" { shape: 64 }
        fc "a" { bottom: "data"   num_output: 8  param { name: "w" }  param { name: "b" } }
        fc "b" { bottom: "other"  num_output: 8  param { name: "w" }  param { name: "b" } }
        contrastive_loss { bottom: "a"  bottom: "b"  bottom: "label" }
    """

    margin: NonNegativeReal = 1.0
    """How far apart unlike pairs are to be."""
    legacy_version: Flag = False
    """Whether unlike pairs cost max(0, margin - d²), as Caffe had it at first."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        a, b, label = bottoms
        tops = paired([a, b])
        per_sample(label, a)
        return tops

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (a, b, label), op = bottoms, context.op
        alike = op.Cast(op.Cast(reshape_samples(op, label), to="bool"), to="float32")
        square = squared_distance(op, a, b)
        unlike = op.Sub(op.scalar(1), alike)
        each = op.Add(op.Mul(alike, square), op.Mul(unlike, self._apart(op, square)))
        return (op.Mul(batch_mean(op, each), op.scalar(0.5)),)

    def _apart(self, op: Ops, square: Value) -> Value:
        """What an unlike pair costs."""
        margin = op.scalar(self.margin)
        cost: Value
        if self.legacy_version:
            cost = op.Relu(op.Sub(margin, square))
        else:
            missing = op.Relu(op.Sub(margin, op.Sqrt(op.Clip(square, op.scalar(_NEAREST)))))
            cost = op.Mul(missing, missing)
        return cost
