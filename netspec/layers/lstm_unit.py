"""LSTM unit: one step of a memory, from its gates."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, ShapeError, Types, Values, numbers
from netspec.ir.recurrent import lstm_step
from netspec.ir.types import TensorType, size


class LSTMUnit(Layer):
    """c' = cont·σ(f)·c + σ(i)·tanh(g), h = σ(o)·tanh(c'): tops c', h of bottoms c, gates, cont.

    c is 1 x streams x values, the gates i, f, o, g side by side, cont 1 x streams (Caffe,
    `lstm_unit_layer.cpp`, which `lstm` is made of).
    """

    keyword: ClassVar = "lstm_unit"
    caffe: ClassVar = CaffeType("LSTMUnit")
    bottoms: ClassVar = range(3, 4)
    tops: ClassVar = range(2, 3)
    example: ClassVar = """
        input "c" { shape: 2x4 }         # with a batch of 1
        input "gates" { shape: 2x16 }
        input "cont" { shape: 2 }
        lstm_unit { bottom: "c"  bottom: "gates"  bottom: "cont"  top: "c2"  top: "h2" }
    """

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        c, gates, cont = numbers(bottoms)
        if len(c.shape) != 3 or c.batch != 1:
            raise ShapeError(f"takes a memory of 1 x streams x values, not {size(c.shape)}")
        _, streams, values = c.shape
        for name, bottom, wanted in (
            ("gates", gates, (1, streams, 4 * values)),
            ("cont", cont, (1, streams)),
        ):
            if bottom.shape != wanted:
                raise ShapeError(f"{name} must be {size(wanted)}, not {size(bottom.shape)}")
        return c, c

    def bound(self, bottoms: Types) -> bool:
        return True

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (c, gates, cont), op = bottoms, context.op
        _, streams, values = c.type.shape
        h, new = lstm_step(
            op,
            op.Reshape(gates, op.ints(streams, 4 * values)),
            op.Reshape(c, op.ints(streams, values)),
            op.Reshape(cont, op.ints(streams, 1)),
        )
        shape = op.ints(1, streams, values)
        return op.Reshape(new, shape), op.Reshape(h, shape)
