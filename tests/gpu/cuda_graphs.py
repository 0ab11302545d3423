"""The graphs of every training as CUDA gets them, and what in a graph CUDA would trip over."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper

from netspec.autodiff import grad
from netspec.codegen.accumulate import accumulate_graph
from netspec.codegen.emit import emit
from netspec.codegen.recordable import copied
from netspec.codegen.scaling import LossScaling
from netspec.codegen.solvers import PYTORCH, SOLVERS, update_rule
from netspec.codegen.step import BatchStep, evaluation_graph, gradient_graph
from netspec.codegen.target import CUDA
from netspec.codegen.update import StatisticGroup, UpdateStep, WeightGroup, update_graph
from netspec.compiler import elaborate, read
from netspec.ir.graph import Graph, Op
from netspec.ir.net import Net
from netspec.ir.sections import Solver
from netspec.ir.transform import Transform
from netspec.ir.types import Shape, TensorType

BATCH, SAMPLES = 2, 8


def transform(net: Net) -> Transform:
    """The spec's, or one for nets without a data section."""
    return net.data.transform if net.data else Transform(mean_value=(120.0,), scale=1 / 64)


def array_types(net: Net) -> dict[str, TensorType]:
    """Whole data sets of bytes, as they are kept, for what the net reads."""
    pad = transform(net).pad
    return {
        name: TensorType((SAMPLES, *t.sample), "int64")
        if t.dtype == "int64"
        else TensorType(
            (SAMPLES, *t.sample[:1], *(n - 2 * pad * (name == "data") for n in t.spatial)), "uint8"
        )
        for name, t in net.inputs.items()
    }


def steps(spec: str, *, batch: int = BATCH, half: bool = False) -> dict[str, BatchStep]:
    """A spec's evaluation, and its gradients if it has a loss; the data are bytes.

    With `half` there are gradients in half precision, too.
    """
    nets = elaborate(read(spec), batch=batch)
    train, test = nets.train.net, nets.test.net
    made = {"evaluation": evaluation_graph(test, array_types(test), transform(test), CUDA)}
    if any(node.layer.role.value == "loss" for node in train.nodes):
        for name in ("gradient", "half") if half else ("gradient",):
            made[name] = gradient_graph(
                train, array_types(train), transform(train), CUDA, grad, half=name == "half"
            )
    return made


def model(step: BatchStep) -> onnx.ModelProto:
    return emit(step.graph, names=step.names)


GROUPS = [WeightGroup("0", 1024), WeightGroup("1", 256, lr_mult=2.0, decay_mult=0.0)]
STATISTICS = [StatisticGroup("0", 256, 0.1)]
UPDATES: dict[str, dict[str, object]] = {
    **{kind: {"type": kind} for kind in SOLVERS},
    **{f"{kind} of PyTorch": {"type": kind, "arithmetic": "PYTORCH"} for kind in PYTORCH},
    "clipped": {"clip_gradients": 1},
    "accumulated": {"clip_gradients": 1, "iter_size": 4},
}
"""Solvers whose update graphs differ, by a name."""


def update(name: str) -> UpdateStep:
    """A solver's update of two groups of weights and one of statistics, as CUDA gets it."""
    fields = {"base_lr": 0.1, "weight_decay": 1e-3, "max_iter": 1, **UPDATES[name]}
    if fields.get("type") not in ("AdaGrad", "RMSProp"):
        fields["momentum"] = 0.9
    rule = update_rule(Solver.model_validate(fields))
    return update_graph(GROUPS, STATISTICS, rule, guarded=True)


def accumulation(*, first: bool) -> UpdateStep:
    """What adds up the batches of an iteration."""
    return accumulate_graph(GROUPS, STATISTICS, 4, first=first)


def updates() -> dict[str, UpdateStep]:
    """All that runs between the gradients and the next step, by a name."""
    made = {name: update(name) for name in UPDATES}
    made |= {f"first {first}": accumulation(first=first) for first in (True, False)}
    scaling = LossScaling(2.0**16, 2000)
    return made | {"scale": scaling.update_graph(), "unscaled": scaling.division_graph(GROUPS)}


def update_model(name: str) -> onnx.ModelProto:
    step = updates()[name]
    return emit(step.graph, names=step.names)


def hazards(graph: Graph) -> Iterator[str]:
    """What runs wrong, slowly or not at all on CUDA, though its operators are all placed there."""
    yield from copied(graph)
    for op in graph.ops:
        yield from (f"{op.name}: {what}" for what in _hazards(graph, op))


def _hazards(graph: Graph, op: Op) -> Iterator[str]:
    pads = tuple(op.attrs.get("pads", ()))
    begin, end = pads[: len(pads) // 2], pads[len(pads) // 2 :]
    if op.op_type in ("Conv", "ConvTranspose") and begin != end:
        yield f"cuDNN refuses pads {pads}"
    if op.op_type in ("AveragePool", "MaxPool") and any(
        b < e for b, e in zip(begin, end, strict=True)
    ):
        yield f"pooling by cuDNN knows only what is before: {pads}"
    if op.op_type.startswith("Reduce"):
        x = op.inputs[0]
        assert x is not None
        axes = graph.constants[op.inputs[1]] if op.inputs[1:] and op.inputs[1] else ()
        reduced = {int(axis) % len(x.type.shape) for axis in axes} or set(range(len(x.type.shape)))
        if not _one_stage(x.type.shape, reduced):
            yield f"no fast kernel sums {x.type} over {sorted(reduced)}"
    if op.op_type == "ScatterElements" and op.outputs[0].type.dtype != "float32":
        yield f"adds {op.outputs[0].type.dtype} as if they were floats"
    if any(v.type.numel >= 2**31 for v in op.outputs):
        yield "kernels count cells in 32 bits"


def _one_stage(shape: Shape, reduced: set[int]) -> bool:
    """Whether the axes are one block at the beginning or the end, those of one cell left out."""
    wide = [axis in reduced for axis, n in enumerate(shape) if n > 1]
    starts = sum(here and not before for before, here in zip([False, *wide], wide, strict=False))
    return starts == 0 or (starts == 1 and (wide[0] or wide[-1]))


def without_cudnn(proto: onnx.ModelProto, graph: Graph) -> onnx.ModelProto:
    """Zeros in place of what asks for cuDNN when it runs, for runs over the stand-in libraries."""
    by_name = {op.name: op for op in graph.ops}
    for node in proto.graph.node:
        asks = node.op_type in ("AveragePool", "BatchNormalization", "Conv", "ConvTranspose")
        if asks or (node.op_type == "MaxPool" and len(node.output) == 1):
            made = by_name[node.name].outputs[0].type
            shape, zero = np.array(made.shape, np.int64), np.zeros(1, made.dtype)
            proto.graph.initializer.append(numpy_helper.from_array(shape, f"{node.name}/shape"))
            node.op_type = "ConstantOfShape"
            del node.attribute[:]
            value = onnx.helper.make_attribute("value", numpy_helper.from_array(zero))
            node.attribute.append(value)
            node.input[:] = [f"{node.name}/shape"]
    return proto
