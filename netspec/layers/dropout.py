"""Dropout: cells are silenced at random while training."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.fields import Probability
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, Types, Values, numbers
from netspec.ir.types import TensorType


class Dropout(Layer):
    """TRAIN: y = x / (1 - dropout_ratio) where a draw spares the cell, else 0; TEST: y = x.

    Source: Srivastava et al. 2014, JMLR 15; Caffe, `dropout_layer.cpp`.
    """

    keyword: ClassVar = "dropout"
    caffe: ClassVar = CaffeType("Dropout", "dropout_param", "DROPOUT")
    in_place: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 256 }
        dropout { dropout_ratio: 0.4 }
    """

    dropout_ratio: Probability = 0.5
    """How likely a cell is silenced."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        return (x,)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), op = bottoms, context.op
        if not context.training or self.dropout_ratio == 0:
            return (op.Identity(x),)
        spared = op.GreaterOrEqual(context.random(x.type.shape), op.scalar(self.dropout_ratio))
        mask = op.Cast(spared, to="float32")
        return (op.Mul(x, op.Mul(mask, op.scalar(1 / (1 - self.dropout_ratio)))),)
