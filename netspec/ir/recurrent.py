"""What recurrent layers share: a sequence, where it begins anew, and the steps one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

from netspec.ir.fields import Flag, Positive
from netspec.ir.filler import Filler
from netspec.ir.graph import Ops, Value
from netspec.ir.layer import Layer, ShapeError, Types, Weight, checked, numbers
from netspec.ir.phrases import zeros
from netspec.ir.types import Shape, TensorType, size

MAX_STEPS = 1024
"""The longest sequence, each step of which is operators of its own."""


@dataclass(frozen=True, slots=True)
class Extents:
    """The sizes of a sequence: steps, streams side by side, values of a step, of the static."""

    steps: int
    streams: int
    inputs: int
    static: int = 0


class Recurrent(Layer):
    """Bottoms: x, steps x streams x …; cont, steps x streams, 0 where a stream begins anew, else 1;
    an input that is the same at every step, streams x …, if one is given; and with `expose_hidden`
    the state to begin with, which is put out at the end, too: each 1 x streams x num_output.

    Axis 0 is the steps, not the batch (Caffe, `recurrent_layer.cpp`). Unless given, the state
    begins with zeros: where cont does not say so, Caffe's goes on from its last batch.
    """

    bottoms: ClassVar = range(2, 6)
    counts_labels: ClassVar = True
    hidden: ClassVar[int]
    """How many tensors the state has."""
    gates: ClassVar[int]
    """Values that a step computes for each of the state's."""

    num_output: Positive
    """Values of the state, and of the top at each step."""
    weight_filler: Filler = Filler()
    """How the weights are initialised."""
    bias_filler: Filler = Filler()
    """How the biases are initialised."""
    expose_hidden: Flag = False
    """Whether the state comes from the last bottoms, and goes to the last tops."""
    debug_info: Flag = False
    """Accepted as in Caffe; it changes nothing."""

    def _sequence(self, bottoms: Types) -> Extents:
        """The sizes; a ShapeError if the bottoms do not fit."""
        x, cont, *others = numbers(bottoms)
        exposed = self.hidden if self.expose_hidden else 0
        if len(others) not in (exposed, exposed + 1):
            raise ShapeError(
                f"reads x, cont, perhaps a static input, and {exposed} of the state: "
                f"{2 + exposed} or {3 + exposed} blobs, not {len(bottoms)}"
            )
        if len(x.shape) < 3:
            raise ShapeError(f"takes steps x streams x values, not {size(x.shape)}")
        steps, streams, *values = x.shape
        if steps > MAX_STEPS:
            raise ShapeError(f"{steps} steps: at most {MAX_STEPS} are written one by one")
        self._expect("cont", cont.shape, (steps, streams))
        static = others[0] if len(others) > exposed else None
        if static is not None and static.shape[:1] != (streams,):
            raise ShapeError(f"the static input is {size(static.shape)}, for {streams} streams")
        for state in others[len(others) - exposed :]:
            self._expect("a state", state.shape, (1, streams, self.num_output))
        return Extents(
            steps, streams, prod(values), 0 if static is None else prod(static.shape[1:])
        )

    def _expect(self, what: str, shape: Shape, wanted: Shape) -> None:
        if shape != wanted:
            raise ShapeError(f"{what} must be {size(wanted)}, not {size(shape)}")

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        sequence = self._sequence(bottoms)
        states = self.hidden if self.expose_hidden else 0
        made = [(n, sequence.streams, self.num_output) for n in (sequence.steps, *[1] * states)]
        return checked(*(TensorType(shape) for shape in made))

    def bound(self, bottoms: Types) -> bool:
        return bool(bottoms)  # each of its steps is written out

    def weights(self, bottoms: Types) -> tuple[Weight, ...]:
        sequence, rows = self._sequence(bottoms), self.gates * self.num_output
        static = Weight("weight_static", (rows, sequence.static), self.weight_filler)
        return (
            Weight("weight", (rows, sequence.inputs), self.weight_filler),
            Weight("bias", (rows,), self.bias_filler),
            *((static,) if sequence.static else ()),
            Weight("weight_hidden", (rows, self.num_output), self.weight_filler),
        )

    def macs(self, bottoms: Types) -> int:
        sequence, rows = self._sequence(bottoms), self.gates * self.num_output
        moving = sequence.steps * (sequence.inputs + self.num_output)
        return sequence.streams * rows * (moving + sequence.static)

    def _given(self, op: Ops, bottoms: Sequence[Value], weights: Sequence[Value]) -> list[Value]:
        """What the inputs alone add to each step: streams x gates·num_output."""
        sequence = self._sequence([b.type for b in bottoms])
        steps, streams = sequence.steps, sequence.streams
        flat = op.Reshape(bottoms[0], op.ints(steps * streams, sequence.inputs))
        parts = split(op, op.Gemm(flat, *weights[:2], transB=1), steps)
        if not sequence.static:
            return parts
        static = op.Reshape(bottoms[2], op.ints(streams, sequence.static))
        same = op.Gemm(static, weights[2], transB=1)
        return [op.Add(part, same) for part in parts]

    def _begun(self, op: Ops, bottoms: Sequence[Value]) -> tuple[list[Value], list[Value]]:
        """For each step whether a stream goes on, streams x 1; and the state to begin with."""
        steps, streams = bottoms[1].type.shape
        going = split(op, op.Reshape(bottoms[1], op.ints(steps * streams, 1)), steps)
        shape = (streams, self.num_output)
        if not self.expose_hidden:
            return going, [zeros(op, shape, "float32")] * self.hidden
        return going, [op.Reshape(b, op.ints(*shape)) for b in bottoms[-self.hidden :]]

    def _joined(self, op: Ops, steps: Sequence[Value]) -> Value:
        """The states of all steps as steps x streams x num_output."""
        streams = steps[0].type.batch
        rows = op.Concat(*steps, axis=0) if len(steps) > 1 else steps[0]
        joined: Value = op.Reshape(rows, op.ints(len(steps), streams, self.num_output))
        return joined


def split(op: Ops, x: Value, count: int, axis: int = 0) -> list[Value]:
    """`x` in as many equal parts."""
    if count == 1:
        return [x]
    each = x.type.shape[axis] // count
    return list(op.Split(x, op.ints(*[each] * count), outputs=count, axis=axis))


def lstm_step(op: Ops, gates: Value, c: Value, going: Value) -> tuple[Value, Value]:
    """c' = cont·σ(f)·c + σ(i)·tanh(g), h = σ(o)·tanh(c'); gates are i, f, o, g, as in Caffe."""
    i, f, o, g = split(op, gates, 4, axis=1)
    kept = op.Mul(op.Mul(going, op.Sigmoid(f)), c)
    c = op.Add(kept, op.Mul(op.Sigmoid(i), op.Tanh(g)))
    return op.Mul(op.Sigmoid(o), op.Tanh(c)), c
