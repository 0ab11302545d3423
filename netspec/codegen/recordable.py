"""Whether CUDA can record a graph once and replay it: what would not be repeated as it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from netspec.ir.graph import Graph, Op

ON_HOST: Mapping[str, tuple[int, ...]] = {
    "Clip": (1, 2), "Expand": (1,), "OneHot": (1, 2), "Pad": (1, 2, 3), "ReduceMax": (1,),
    "ReduceMean": (1,), "ReduceSum": (1,), "Reshape": (1,), "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4), "Split": (1,), "Squeeze": (1,), "Unsqueeze": (1,),
}  # fmt: skip
"""Inputs that CUDA kernels read on the host."""
PARTS = 32
"""Operands that Concat and Split take without a copy from the host."""
_DRAWN = ("Bernoulli", "Dropout", "Multinomial", "Random")
_BODIES = ("If", "Loop", "Scan")


def unrecordable(graph: Graph) -> Iterator[str]:
    """Why a graph cannot be recorded; nothing if it can (onnxruntime 1.31.1).

    All shapes are static, and that every node is on CUDA the session sees to. What is left are
    operands that the host reads or lists, whose copies a replay would repeat from memory that is
    gone, random numbers, which it would repeat, and graphs within the graph.
    """
    for op in graph.ops:
        if op.op_type.startswith(_DRAWN):
            yield f"{op.name}: a replay would draw the same numbers"
        if op.op_type in _BODIES:
            yield f"{op.name}: it holds a graph of its own"
    yield from copied(graph)


def copied(graph: Graph) -> Iterator[str]:
    """The operands that the host reads or lists, and so copies in every run."""
    for op in graph.ops:
        yield from (f"{op.name}: {what}" for what in _copied(graph, op))


def _copied(graph: Graph, op: Op) -> Iterator[str]:
    for i in ON_HOST.get(op.op_type, ()):
        if i < len(op.inputs) and op.inputs[i] not in (None, *graph.constants):
            yield f"the host reads input {i}, which is made on the device"
    parts = op.inputs if op.op_type == "Concat" else op.outputs
    if op.op_type in ("Concat", "Split") and len(parts) > PARTS:
        yield f"{len(parts)} parts are listed on the host"
    if op.op_type == "Split" and len({part.type for part in op.outputs}) > 1:
        yield "unequal parts are listed on the host"
    if op.op_type in ("MatMul", "FusedMatMul"):
        a, b = (v.type.shape[:-2] for v in op.inputs if v)
        if b not in (a, ()):
            yield "broadcast batches are listed on the host"
