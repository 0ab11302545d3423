"""Leaves out what no output needs: dead operators, unread outputs, copies, unused constants."""

from __future__ import annotations

from dataclasses import replace

from netspec.ir.graph import Graph, Op, Value

_TRIMMABLE = frozenset({"MaxPool", "BatchNormalization", "Dropout", "LayerNormalization"})
"""Operators whose outputs after the first are optional, but for training's BatchNormalization."""


def prune(graph: Graph) -> Graph:
    """The graph without operators and constants that lead to no output.

    y, i = MaxPool(x); z = Relu(y)   →   y = MaxPool(x); z = Relu(y)
    """
    needed: set[Value] = set(graph.outputs)
    kept: list[Op] = []
    for op in reversed(graph.ops):
        if not any(output in needed for output in op.outputs):
            continue
        outputs = op.outputs
        if op.op_type in _TRIMMABLE and not op.attrs.get("training_mode"):
            while len(outputs) > 1 and outputs[-1] not in needed:
                outputs = outputs[:-1]
        kept.append(op if outputs is op.outputs else replace(op, outputs=outputs))
        needed.update(value for value in op.inputs if value is not None)
    constants = {value: array for value, array in graph.constants.items() if value in needed}
    return replace(graph, ops=tuple(reversed(kept)), constants=constants)


def drop_copies(graph: Graph) -> Graph:
    """The graph with readers of an `Identity` reading its source; copies that leave stay.

    y = Identity(x); z = Relu(y)   →   z = Relu(x)

    A `StopGradient` is a copy once there are gradients.
    """
    stand_in: dict[Value, Value] = {}
    ops: list[Op] = []
    for op in graph.ops:
        inputs = tuple(stand_in.get(v, v) if v is not None else None for v in op.inputs)
        if op.op_type in ("Identity", "StopGradient"):
            (source,) = inputs
            assert source is not None
            if op.outputs[0] not in graph.outputs:
                stand_in[op.outputs[0]] = source
                continue
            op = replace(op, op_type="Identity", domain="")
        ops.append(op if inputs == op.inputs else replace(op, inputs=inputs))
    return replace(graph, ops=tuple(ops))


def simplify(graph: Graph) -> Graph:
    """Every pass that changes no result."""
    return prune(drop_copies(graph))
