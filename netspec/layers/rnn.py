"""RNN: a state that each step computes from the one before."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Types, Values, Weight
from netspec.ir.recurrent import Recurrent


class RNN(Recurrent):
    """h' = tanh(W·x + b + W_static·s + W_hidden·(cont·h)), y = tanh(W_out·h' + b_out) (Elman 1990;
    Caffe, `rnn_layer.cpp`).

    The top has y of every step; behind it, with `expose_hidden`, the last h.
    """

    keyword: ClassVar = "rnn"
    caffe: ClassVar = CaffeType("RNN", "recurrent_param")
    tops: ClassVar = range(1, 3)
    hidden: ClassVar = 1
    gates: ClassVar = 1
    example: ClassVar = """
        input "data" { shape: 2x16 }     # with a batch of n: n steps of two streams
        input "cont" { shape: 2 }
        rnn { bottom: "data"  bottom: "cont"  num_output: 8  weight_filler { type: xavier } }
        fc { num_output: 3  axis: 2 }
    """

    def weights(self, bottoms: Types) -> tuple[Weight, ...]:
        n = self.num_output
        return (
            *super().weights(bottoms),
            Weight("weight_out", (n, n), self.weight_filler),
            Weight("bias_out", (n,), self.bias_filler),
        )

    def macs(self, bottoms: Types) -> int:
        steps, streams = bottoms[0].shape[:2]
        return super().macs(bottoms) + steps * streams * self.num_output**2

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        op = context.op
        *recurrent, out, out_bias = weights
        given = self._given(op, bottoms, recurrent)
        going, (h,) = self._begun(op, bottoms)
        back = op.Transpose(recurrent[-1], perm=(1, 0))
        states: list[Value] = []
        for part, on in zip(given, going, strict=True):
            h = op.Tanh(op.Add(part, op.MatMul(op.Mul(on, h), back)))
            states.append(h)
        rows = op.Concat(*states, axis=0) if len(states) > 1 else h
        made = op.Tanh(op.Gemm(rows, out, out_bias, transB=1))
        y = op.Reshape(made, op.ints(len(states), h.type.batch, self.num_output))
        return (y, self._joined(op, [h])) if self.expose_hidden else (y,)
