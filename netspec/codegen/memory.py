"""The memory of a graph run in the order of its file, as onnxruntime's CPU executor holds it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod

from netspec.codegen.operators import NCHWC
from netspec.ir.graph import Graph, Op, Value


@dataclass(frozen=True, slots=True)
class Peak:
    """The moment of a run that takes the most memory, and what is there all along, in bytes."""

    operator: Op | None
    """The operator that runs at that moment; None if nothing is computed."""
    activations: int
    """What is computed, alive at that moment, and no output of the graph."""
    workspace: int
    """What that operator's kernel takes for itself, see `workspace`."""
    inputs: int
    outputs: int
    constants: int

    @property
    def allocated(self) -> int:
        """What onnxruntime allocates: inputs and outputs are the caller's, constants the model's.

        Its arena rounds every block up to 256 bytes and asks for more in one go; what it holds of
        the system's memory is more by what its pieces do not fill.
        """
        return self.activations + self.workspace


def peak(graph: Graph, *, reuse: bool = False) -> Peak:
    """Where a run of `graph` needs the most memory, and how much.

    Operators run in their order; a buffer is freed after the last reader of what lies in it.

    `reuse` is the session's `enable_mem_reuse`, which ours leave off: with it a value takes the
    buffer of a dead one of its shape *from the first to the last of their lives*, so a buffer is
    held in between too. Without it buffers are freed and allocated anew, and never held in vain.
    """
    live = timeline(graph, reuse=reuse)
    totals = [alive + workspace(op) for alive, op in zip(live, graph.ops, strict=True)]
    worst = max(range(len(totals)), key=totals.__getitem__, default=None)
    return Peak(
        operator=None if worst is None else graph.ops[worst],
        activations=0 if worst is None else live[worst],
        workspace=0 if worst is None else workspace(graph.ops[worst]),
        inputs=_sum(graph.inputs),
        outputs=_sum(graph.outputs),
        constants=_sum(graph.constants),
    )


def timeline(graph: Graph, *, reuse: bool = False) -> list[int]:
    """The bytes of activations that are alive while each operator runs."""
    made, last = lifetimes(graph, reuse=reuse)
    change = [0] * (len(graph.ops) + 1)
    for buffer, start in made.items():
        change[start] += buffer.type.nbytes
        change[last[buffer] + 1] -= buffer.type.nbytes
    live, alive = [], 0
    for difference in change[:-1]:
        alive += difference
        live.append(alive)
    return live


def lifetimes(graph: Graph, *, reuse: bool = False) -> tuple[dict[Value, int], dict[Value, int]]:
    """The indices of the operators that make and that last read each buffer, in their order.

    Buffers are named by the value that they were made for; those of inputs, constants and outputs
    are left out.
    """
    plan = _Plan(graph, reuse=reuse)
    apart = {*graph.inputs, *graph.constants, *graph.outputs}
    made: dict[Value, int] = {}
    last: dict[Value, int] = {}
    for i, op in enumerate(graph.ops):
        for output in op.outputs:
            made.setdefault(plan.buffer[output], i)
        for value in op.inputs:
            if value is not None:
                last[plan.buffer[value]] = i
    for buffer in apart:
        made.pop(buffer, None)
    # a buffer that nothing reads stays until the run ends
    return made, {buffer: last.get(buffer, len(graph.ops) - 1) for buffer in made}


ALIASES = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators whose output lies where their first input does, whoever else reads that."""

IN_PLACE: Mapping[tuple[str, str], int] = {
    **{
        ("", op_type): 0
        for op_type in (
            "Cast", "Celu", "Clip", "Elu", "HardSigmoid", "LeakyRelu", "LogSoftmax", "Relu",
            "ScatterElements", "Selu", "Sigmoid", "Softmax", "Softplus", "Softsign", "Tanh",
            "ThresholdedRelu", "Trilu",
        )
    },
    (NCHWC, "Conv"): 3,
}  # fmt: skip
"""Domain and operator → the input whose buffer the output takes, if nothing reads it later.

Found by running each operator and looking at what is allocated (onnxruntime 1.31.1): arithmetic
such as Add and Mul is not among them, nor are Exp, Sqrt and Neg.
"""


class _Plan:
    """Which buffer every value lies in, after onnxruntime's `allocation_planner.cc`.

    A buffer is named by the value that it was made for. Buffers of inputs, constants and outputs
    are never free.
    """

    def __init__(self, graph: Graph, *, reuse: bool) -> None:
        self._kept = {*graph.inputs, *graph.constants, *graph.outputs}
        self._reuse = reuse
        self._uses = _uses(graph)
        """How many readers a buffer still has, its maker counted as one."""
        self._free: list[Value] = []
        """Dead buffers, the latest last."""
        self.buffer: dict[Value, Value] = {v: v for v in (*graph.inputs, *graph.constants)}
        for op in graph.ops:
            self._place(op)

    def _place(self, op: Op) -> None:
        for index, output in enumerate(op.outputs):
            found = None if output in self._kept else self._find(op, index, output)
            self.buffer[output] = output if found is None else found
            if found is not None:
                self._uses[found] += self._uses[output]
        for value in (*(v for v in op.inputs if v is not None), *op.outputs):
            buffer = self.buffer[value]
            self._uses[buffer] -= 1
            if not self._uses[buffer]:
                self._free.append(buffer)

    def _find(self, op: Op, index: int, output: Value) -> Value | None:
        """The buffer that an output takes over."""
        if index == 0 and op.domain == "" and op.op_type in ALIASES:
            return self.buffer[_present(op.inputs[0])]
        position = IN_PLACE.get((op.domain, op.op_type), len(op.inputs))
        if index == 0 and position < len(op.inputs):
            source = op.inputs[position]
            if source is not None and _fits(source, output):
                buffer = self.buffer[source]
                if self._uses[buffer] == 1:  # this reader; whoever keeps it counts as another
                    return buffer
        if self._reuse and output.type.shape:
            for i in reversed(range(len(self._free))):
                if _fits(self._free[i], output):
                    return self._free.pop(i)
        return None


def _uses(graph: Graph) -> dict[Value, int]:
    """One use for the maker, one for each time that an operator reads it, one for the caller."""
    uses = dict.fromkeys((*graph.inputs, *graph.constants), 1)
    for op in graph.ops:
        for value in op.inputs:
            if value is not None:
                uses[value] += 1
        uses.update(dict.fromkeys(op.outputs, 1))
    for value in graph.outputs:
        uses[value] += 1
    return uses


def _fits(buffer: Value, value: Value) -> bool:
    """onnxruntime compares shapes, not sizes."""
    a, b = buffer.type, value.type
    return a.shape == b.shape and a.itemsize == b.itemsize


def workspace(op: Op) -> int:
    """What the kernel of an operator allocates beside its outputs, in bytes.

    Measured on onnxruntime 1.31.1, one float32 image at a time where it says so. Left out is what
    is small: 64 KiB per thread of a Conv that unrolls in strips, and tables of a few bytes per
    matrix or channel. The blocked convolutions take nothing.
    """
    rule = _WORKSPACE.get(op.op_type) if op.domain == "" else None
    return rule(op) if rule is not None else 0


def _conv(op: Op) -> int:
    """MLAS unrolls one image of one group whole where it has more filters than cells."""
    w = _present(op.inputs[1])
    (y,) = op.outputs
    ones = all(n == 1 for n in (*w.type.spatial, *op.attrs.get("strides", ())))
    group = op.attrs.get("group", 1)
    cells = prod(y.type.spatial)
    if (ones and not any(op.attrs.get("pads", ()))) or w.type.shape[0] // group <= cells:
        return 0
    return 4 * cells * prod(w.type.shape[1:])


def _conv_transpose(op: Op) -> int:
    """The columns of one image of one group: output channels by window by cells of x."""
    x, w = map(_present, op.inputs[:2])
    return 4 * prod(w.type.shape[1:]) * prod(x.type.spatial)


def _scatter(op: Op) -> int:
    """A copy of the indices, as int64."""
    return 8 * _present(op.inputs[1]).type.numel


def _where(op: Op) -> int:
    """Both choices, broadcast."""
    return 2 * op.outputs[0].type.nbytes


def _softmax(op: Op) -> int:
    """Copies with the axis brought to the end, before and after."""
    (y,) = op.outputs
    return 0 if op.attrs.get("axis", -1) in (-1, len(y.type.shape) - 1) else 2 * y.type.nbytes


def _lrn(op: Op) -> int:
    """The sums, and the squares of one image between padding of zeros."""
    x = _present(op.inputs[0])
    window: int = op.attrs["size"]
    return x.type.nbytes + 4 * (x.type.channels + window - 1) * prod(x.type.spatial)


def _variadic(op: Op) -> int:
    """Of three inputs and more, the partial result beside the next one."""
    return op.outputs[0].type.nbytes if len(op.inputs) > 2 else 0


_WORKSPACE: Mapping[str, Callable[[Op], int]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "LRN": _lrn,
    "LogSoftmax": _softmax,
    "Max": _variadic,
    "Mean": _variadic,
    "Min": _variadic,
    "ScatterElements": _scatter,
    "Softmax": _softmax,
    "Sum": _variadic,
    "Where": _where,
}


def _present(value: Value | None) -> Value:
    assert value is not None
    return value


def _sum(values: Iterable[Value]) -> int:
    return sum(value.type.nbytes for value in values)
