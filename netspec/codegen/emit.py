"""Graph to ModelProto: the last step of the road, and the only one that writes protobuf."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from netspec.codegen.builder import IR_VERSION, OPSET, type_proto
from netspec.ir.graph import Graph, Op, Value
from netspec.version import __version__

BATCH = "N"
"""The symbolic name of the batch axis."""


def emit(
    graph: Graph,
    *,
    names: Mapping[Value, str] | None = None,
    initializers: Mapping[Value, npt.NDArray[Any]] | None = None,
    symbolic_batch: frozenset[Value] = frozenset(),
    metadata: Mapping[str, str] | None = None,
    check: bool = False,
) -> onnx.ModelProto:
    """The model, byte-identical for an identical graph.

    `names` renames values (blobs keep their names); `initializers` turns inputs into constants;
    values of `symbolic_batch` get a symbolic first axis; `check` runs ONNX's full checker.
    """
    fixed = dict(initializers or {})
    called = _names(graph, names or {})
    proto = helper.make_graph(
        [_node(op, called) for op in graph.ops],
        graph.name,
        [_info(v, called, symbolic_batch) for v in graph.inputs if v not in fixed],
        [_info(v, called, symbolic_batch) for v in graph.outputs],
        [
            numpy_helper.from_array(array, called[value])
            for value, array in [*fixed.items(), *graph.constants.items()]
        ],
    )
    domains = {op.domain for op in graph.ops if op.domain}
    model = helper.make_model(
        proto,
        opset_imports=[helper.make_opsetid("", OPSET)]
        + [helper.make_opsetid(domain, 1) for domain in sorted(domains)],
        ir_version=IR_VERSION,
        producer_name="netspec",
        producer_version=__version__,
    )
    if metadata:
        helper.set_model_props(model, dict(sorted(metadata.items())))
    if check:
        onnx.checker.check_model(model, full_check=True)
    return model


def _names(graph: Graph, chosen: Mapping[Value, str]) -> dict[Value, str]:
    """One name per value: the chosen ones first, then the values' own, made unique."""
    called: dict[Value, str] = {}
    taken: set[str] = set()
    values = [*graph.inputs, *graph.constants, *(v for op in graph.ops for v in op.outputs)]
    for value in values:
        if value in chosen:
            assert chosen[value] not in taken, f"two values are called {chosen[value]}"
            called[value] = chosen[value]
            taken.add(chosen[value])
    for value in values:
        if value in called:
            continue
        name, count = value.name, 1
        while name in taken:
            count += 1
            name = f"{value.name}~{count}"
        called[value] = name
        taken.add(name)
    return called


def _node(op: Op, called: Mapping[Value, str]) -> onnx.NodeProto:
    return helper.make_node(
        op.op_type,
        [called[v] if v is not None else "" for v in op.inputs],
        [called[v] for v in op.outputs],
        name=op.name,
        domain=op.domain or None,
        **op.attrs,
    )


def _info(
    value: Value, called: Mapping[Value, str], symbolic_batch: frozenset[Value]
) -> onnx.ValueInfoProto:
    proto = type_proto(value.type)
    if value in symbolic_batch:
        proto.tensor_type.shape.dim[0].dim_param = BATCH
    return helper.make_value_info(called[value], proto)
