"""Leaves out what no output needs: dead operators, unread outputs, copies, unused constants."""

from __future__ import annotations

from dataclasses import replace

from netspec.ir.graph import Graph, Op, Value, consumers

_TRIMMABLE = frozenset({"MaxPool", "BatchNormalization", "Dropout", "LayerNormalization"})
"""Operators whose outputs after the first are optional."""


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
        if op.op_type in _TRIMMABLE:
            while len(outputs) > 1 and outputs[-1] not in needed:
                outputs = outputs[:-1]
        kept.append(op if outputs is op.outputs else replace(op, outputs=outputs))
        needed.update(value for value in op.inputs if value is not None)
    constants = {value: array for value, array in graph.constants.items() if value in needed}
    return replace(graph, ops=tuple(reversed(kept)), constants=constants)


def drop_copies(graph: Graph) -> Graph:
    """The graph with readers of an `Identity` reading its source; copies that leave stay.

    y = Identity(x); z = Relu(y)   →   z = Relu(x)
    """
    stand_in: dict[Value, Value] = {}
    ops: list[Op] = []
    for op in graph.ops:
        inputs = tuple(stand_in.get(v, v) if v is not None else None for v in op.inputs)
        if op.op_type == "Identity" and op.outputs[0] not in graph.outputs:
            (source,) = inputs
            assert source is not None
            stand_in[op.outputs[0]] = source
            continue
        ops.append(op if inputs == op.inputs else replace(op, inputs=inputs))
    return replace(graph, ops=tuple(ops))


def mask_before_unpooling(graph: Graph) -> Graph:
    """The graph with the slope of an activation taken where the tensor is small.

    y = MaxPool(x); ȳ → MaxPoolGrad → ReluGrad(·, x)   →   ȳ → ReluGrad(·, y) → MaxPoolGrad

    Equal since ȳ goes to a cell of x that is equal to y.
    """
    readers = consumers(graph.ops)
    stand_in: dict[Value, Value] = {}
    ops: list[Op] = []
    masked: set[Op] = set()
    for op in graph.ops:
        behind = readers.get(op.outputs[0], [])
        if op.op_type == "MaxPoolGrad" and len(behind) == 1 and op.outputs[0] not in graph.outputs:
            (relu,) = behind
            y_bar, x, y, *_ = op.inputs
            leaves = relu.outputs[0] in graph.outputs
            if relu.op_type == "ReluGrad" and relu.inputs[1] is x and not leaves:
                assert y_bar is not None
                slope = replace(
                    relu,
                    inputs=(stand_in.get(y_bar, y_bar), y),
                    outputs=(Value(f"{y_bar.name}:masked", y_bar.type),),
                )
                ops += [slope, replace(op, inputs=(slope.outputs[0], *op.inputs[1:]))]
                stand_in[relu.outputs[0]] = op.outputs[0]
                masked.add(relu)
                continue
        if op in masked:
            continue
        inputs = tuple(stand_in.get(v, v) if v is not None else None for v in op.inputs)
        ops.append(op if inputs == op.inputs else replace(op, inputs=inputs))
    return replace(graph, ops=tuple(ops))


def simplify(graph: Graph) -> Graph:
    """Every pass that changes no result."""
    return prune(mask_before_unpooling(drop_copies(graph)))
