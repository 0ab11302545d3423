"""What is done to the gradient of a maximum pooling is done before it spreads over the plane."""

from __future__ import annotations

from dataclasses import replace

from netspec.ir.graph import Graph, Op, Value, consumers


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


def sum_before_unpooling(graph: Graph) -> Graph:
    """The graph with planes summed where they are small: each ȳ goes to one cell.

    ȳ → MaxPoolGrad → ReduceSum over the plane   →   ȳ → ReduceSum over the plane
    """
    source = {op.outputs[0]: op.inputs[0] for op in graph.ops if op.op_type == "MaxPoolGrad"}
    ops = []
    for op in graph.ops:
        x, *axes = op.inputs or (None,)
        if op.op_type == "ReduceSum" and x in source:
            assert x is not None
            over = [sorted(graph.constants[v]) for v in axes if v is not None]
            if over == [list(range(2, len(x.type.shape)))]:
                op = replace(op, inputs=(source[x], *axes))
        ops.append(op)
    return replace(graph, ops=tuple(ops))


def before_unpooling(graph: Graph) -> Graph:
    """Every such pass."""
    return sum_before_unpooling(mask_before_unpooling(graph))
