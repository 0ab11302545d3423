"""LSTM unit: one step of a memory, from its gates."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, ShapeError, Types, Values, numbers
from netspec.ir.recurrent import lstm_step
from netspec.ir.types import TensorType, size


class LSTMUnit(Layer):
    """c' = cont·σ(f)·c + σ(i)·tanh(g), h = σ(o)·tanh(c'): tops c', h of bottoms c, gates, cont.

    c is steps x streams x values, the gates i, f, o, g side by side, cont steps x streams; all of
    them apart, and in Caffe there is one step (`lstm_unit_layer.cpp`, which `lstm` is made of).
    """

    keyword: ClassVar = "lstm_unit"
    caffe: ClassVar = CaffeType("LSTMUnit")
    bottoms: ClassVar = range(3, 4)
    tops: ClassVar = range(2, 3)
    example: ClassVar = """
        input "c" { shape: 2x4 }
        input "gates" { shape: 2x16 }
        input "cont" { shape: 2 }
        lstm_unit { bottom: "c"  bottom: "gates"  bottom: "cont"  top: "c2"  top: "h2" }
        concat { bottom: "c2"  bottom: "h2" }
    """

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        c, gates, cont = numbers(bottoms)
        if len(c.shape) != 3:
            raise ShapeError(f"takes a memory of steps x streams x values, not {size(c.shape)}")
        *streams, values = c.shape
        for name, bottom, wanted in (
            ("gates", gates, (*streams, 4 * values)),
            ("cont", cont, tuple(streams)),
        ):
            if bottom.shape != wanted:
                raise ShapeError(f"{name} must be {size(wanted)}, not {size(bottom.shape)}")
        return c, c

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (c, gates, cont), op = bottoms, context.op
        _, streams, values = c.type.shape
        h, new = lstm_step(
            op,
            op.Reshape(gates, op.ints(-1, 4 * values)),
            op.Reshape(c, op.ints(-1, values)),
            op.Reshape(cont, op.ints(-1, 1)),
        )
        shape = op.ints(-1, streams, values)
        return op.Reshape(new, shape), op.Reshape(h, shape)
