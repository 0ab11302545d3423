"""A graph as text, one operator a line: for readers and for golden tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netspec.codegen.operators import NCHWC
from netspec.ir.graph import Graph, Op, Value
from netspec.ir.types import size

_PREFIXES = {NCHWC: "nchwc."}


def listing(graph: Graph, names: Mapping[Value, str] | None = None) -> str:
    """What enters, each operator with its layer, what leaves; values are numbered as they are made.

    conv1: %3 4x16x24x24 = nchwc.Conv(weight:conv1.weight, %2) kernel_shape=5x5 …
    """
    called = dict(names or {})
    for op in graph.ops:
        for value in op.outputs:
            called.setdefault(value, f"%{len(called)}")
    inputs = [f"{_name(v, graph, called)} {v.type}" for v in graph.inputs]
    lines = [_line(op, graph, called) for op in graph.ops]
    outputs = [_name(v, graph, called) for v in graph.outputs]
    return "\n".join(["in  " + ", ".join(inputs), *lines, "out " + ", ".join(outputs)]) + "\n"


def _line(op: Op, graph: Graph, called: Mapping[Value, str]) -> str:
    made = ", ".join(f"{called[v]} {size(v.type.shape)}" for v in op.outputs)
    read = ", ".join(_name(v, graph, called) if v else "-" for v in op.inputs)
    attrs = "".join(f" {name}={_attr(value)}" for name, value in op.attrs.items())
    scope = f"{op.scope}: " if op.scope else ""
    return f"{scope}{made} = {_PREFIXES.get(op.domain, '')}{op.op_type}({read}){attrs}"


def _name(value: Value, graph: Graph, called: Mapping[Value, str]) -> str:
    """Constants by what they hold: a few numbers, or their type."""
    if value not in graph.constants:
        return called.get(value, value.name)
    array = graph.constants[value]
    if array.size <= 6:
        return str(array.tolist())
    first = array.ravel()[0]
    return f"[{value.type} of {first:g}]" if (array == first).all() else f"[{value.type}]"


def _attr(value: Any) -> str:
    return size(tuple(value)) if isinstance(value, list | tuple) and value else str(value)
