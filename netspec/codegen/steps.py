"""The slope of a ReLU in words that hold in float16 as in float32."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from netspec.ir.graph import Graph, Op, Value
from netspec.ir.types import TensorType

_LARGEST = float(np.finfo(np.float32).max)


def with_steps(graph: Graph) -> Graph:
    """The graph with a comparison for each product that is cut off, see `phrases.slope`.

    Clip(x·largest, 0, 1)   →   Cast(x > 0)

    The smallest numbers of float16, which are not normal, times the largest are not 1.
    """
    zero = Value("zero", TensorType(()))
    makers = {value: op for op in graph.ops for value in op.outputs}
    ops: list[Op] = []
    for op in graph.ops:
        x = _stepped(graph, op, makers)
        if x is not None:
            beyond = Value(f"{op.name}:beyond", TensorType(x.type.shape, "bool"))
            ops.append(Op("Greater", (x, zero), (beyond,), {}, beyond.name))
            op = replace(op, op_type="Cast", inputs=(beyond,), attrs={"to": 1})
        ops.append(op)
    constants = {**graph.constants, zero: np.array(0, np.float32)}
    return replace(graph, ops=tuple(ops), constants=constants)


def _stepped(graph: Graph, op: Op, makers: dict[Value, Op]) -> Value | None:
    """The x whose sign an operator tells as 0 or 1, if it is one of those."""
    if op.op_type != "Clip":
        return None
    product, *bounds = op.inputs
    maker = makers.get(product) if product is not None else None
    if maker is None or maker.op_type != "Mul" or [_number(graph, v) for v in bounds] != [0, 1]:
        return None
    x, factor = maker.inputs
    return x if _number(graph, factor) == _LARGEST else None


def _number(graph: Graph, value: Value | None) -> float | None:
    """A scalar constant."""
    array = graph.constants.get(value) if value is not None else None
    return float(array) if array is not None and not array.shape else None
