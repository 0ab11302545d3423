"""LSTM: a memory that each step keeps, forgets or overwrites."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Values
from netspec.ir.recurrent import Recurrent, lstm_step


class LSTM(Recurrent):
    """c' = cont·σ(f)·c + σ(i)·tanh(g), h' = σ(o)·tanh(c'), with i, f, o, g the four parts of
    W·x + b + W_static·s + W_hidden·(cont·h) (Hochreiter and Schmidhuber 1997; Caffe,
    `lstm_layer.cpp`).

    The top has h of every step; behind it, with `expose_hidden`, the last h and c.
    """

    keyword: ClassVar = "lstm"
    caffe: ClassVar = CaffeType("LSTM", "recurrent_param")
    tops: ClassVar = range(1, 4)
    hidden: ClassVar = 2
    gates: ClassVar = 4
    example: ClassVar = """
        input "data" { shape: 2x16 }     # with a batch of n: n steps of two streams
        input "cont" { shape: 2 }
        lstm { bottom: "data"  bottom: "cont"  num_output: 8  weight_filler { type: xavier } }
        fc { num_output: 3  axis: 2 }
    """

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        op = context.op
        given = self._given(op, bottoms, weights)
        going, (h, c) = self._begun(op, bottoms)
        back = op.Transpose(weights[-1], perm=(1, 0))
        states: list[Value] = []
        for gates, on in zip(given, going, strict=True):
            gates = op.Add(gates, op.MatMul(op.Mul(on, h), back))
            h, c = lstm_step(op, gates, c, on)
            states.append(h)
        tops = [self._joined(op, states), self._joined(op, [h]), self._joined(op, [c])]
        return tuple(tops if self.expose_hidden else tops[:1])
