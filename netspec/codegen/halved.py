"""Which operators of a training compute in float16."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from netspec.ir.graph import Graph, Op, Value

_PRODUCTS = frozenset({"Conv", "ConvTranspose", "FusedMatMul", "Gemm", "MatMul"})
_FOLLOWING = frozenset(
    {
        "Concat", "Expand", "Gather", "Identity", "LeakyRelu", "MaxPool", "Pad", "Relu", "Reshape",
        "Sigmoid", "Slice", "Split", "Squeeze", "Tanh", "Tile", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
"""Operators that move what they read or bend it, which may as well come behind the rounding."""
_CELLWISE = frozenset(
    {
        "Abs", "Add", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min",
        "Mul", "Neg", "PRelu", "Sub", "Where",
    }
)  # fmt: skip
_SMALL = 16
"""What is smaller by this factor than its value is kept anyway, such as a mean per channel."""
_LEAST, _MOST = 2.0**-14, 65504.0
"""The normal numbers of float16."""


@dataclass(frozen=True)
class Halved:
    """The operators of a graph that read and make float16, as automatic mixed precision has it.

    - Products of a layer that has multiply-accumulates, forward and backward, but no others:
      whatever finds its place by products, such as a grid, needs all digits.
    - What moves, joins or bends numbers, if it reads any in float16 or makes what a product reads.
    - Arithmetic between values that are float16, all of them: one in float32 keeps it there, as
      PyTorch's autocast widens it.

    All else stays float32: sums, means, quotients, exponentials, normalisation, softmax, the losses
    and metrics, what a data section's transform does, and all that is done with gradients of
    weights. A constant that float16 cannot hold keeps its operator in float32, too.
    """

    ops: frozenset[Op]
    either: frozenset[Op]
    """Casts of booleans: exact in both precisions, and so made in the one that is read."""
    cheap: frozenset[Op]
    """Arithmetic in float32 between one value in float16 and small ones, made again when it is read
    long after: a batch normalisation's centred input."""

    @classmethod
    def of(cls, graph: Graph, *, layers: Collection[str], products: Collection[str]) -> Halved:
        """`layers` are those whose operators may be in float16, `products` those that multiply."""
        inside = {*layers, ""}  # gradients of what is read twice are added outside of any layer
        candidates = [
            op for op in graph.ops if op.scope in inside and _holds(graph, op) and _floats(op)
        ]
        multiplying = {op for op in candidates if op.op_type in _PRODUCTS and op.scope in products}
        wanted = _wanted(graph, candidates, multiplying)
        either = {op for op in graph.ops if op.op_type == "Cast" and _of_bool(op)}
        free = {op.outputs[0] for op in either} | set(graph.constants)
        half: set[Value] = set()
        ops: set[Op] = set()
        for op in candidates:
            data = [v for v in _floats(op) if v not in free]
            led = op.outputs[0] in wanted or not half.isdisjoint(data)
            follows = _follows(op) and led
            among = op.op_type in _CELLWISE and data and half.issuperset(data)
            if op in multiplying or follows or among:
                ops.add(op)
                half.update(op.outputs)
        cheap = {op for op in graph.ops if op not in ops and _cheap(op, half)}
        return cls(frozenset(ops), frozenset(either), frozenset(cheap))


def _wanted(graph: Graph, candidates: Collection[Op], multiplying: Collection[Op]) -> set[Value]:
    """Values that products read, if need be moved or bent on the way."""
    wanted: set[Value] = set()
    following = {op for op in candidates if _follows(op)}
    for op in reversed(graph.ops):
        if op in multiplying or (op in following and op.outputs[0] in wanted):
            wanted.update(_floats(op))
    return wanted


def _follows(op: Op) -> bool:
    """Whether an operator may come behind the rounding.

    Columns of images may, and rows of a table may not: there are few of them, and the table would
    be rounded whole.
    """
    rows = op.op_type == "Gather" and not op.attrs.get("axis", 0)
    return op.op_type in _FOLLOWING and not rows


def _floats(op: Op) -> list[Value]:
    return [v for v in op.inputs if v is not None and v.type.dtype == "float32"]


def _holds(graph: Graph, op: Op) -> bool:
    """Whether float16 holds the constants that an operator reads, but for their last digits."""
    return all(_fits(graph.constants[v]) for v in _floats(op) if v in graph.constants)


def _fits(array: npt.NDArray[np.float32]) -> bool:
    size = np.abs(array)
    return bool(((size == 0) | ((size >= _LEAST) & (size <= _MOST))).all())


def _of_bool(op: Op) -> bool:
    (x,) = op.inputs
    assert x is not None
    return x.type.dtype == "bool" and op.outputs[0].type.dtype == "float32"


def _cheap(op: Op, half: Collection[Value]) -> bool:
    if op.op_type not in ("Add", "Mul", "Sub") or op.outputs[0].type.dtype != "float32":
        return False
    large = [v for v in _floats(op) if v.type.numel * _SMALL > op.outputs[0].type.numel]
    return len(large) == 1 and large[0] in half and large[0].type == op.outputs[0].type
