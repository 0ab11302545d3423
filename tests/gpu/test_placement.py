"""Every graph of a training is fit for CUDA, and onnxruntime puts all of its nodes there.

The real provider of the `onnxruntime-gpu` wheel is loaded without a GPU, over the stand-in CUDA
libraries of `../shared/gpu/placement`, which live in a temporary folder and are seen by a child
process alone. That shows placement. `run_on_gpu.py` shows the rest.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import cuda_graphs
import numpy as np
import onnx
import onnxruntime as ort
import pytest

from netspec import zoo
from netspec.codegen import target
from netspec.codegen.builder import Builder
from netspec.codegen.emit import emit
from netspec.codegen.formulate import formulate
from netspec.codegen.operators import word
from netspec.codegen.step import BatchStep
from netspec.codegen.target import CUDA
from netspec.diagnostics import NetspecError
from netspec.ir.graph import Value
from netspec.ir.layer import Layer
from netspec.ir.types import Shape, TensorType
from netspec.layers import LAYERS
from netspec.runtime.device import Device
from netspec.runtime.session import session_options

Node = Callable[[Builder], Value]

DEEPER = {"densenet161", "densenet169", "densenet201", "resnet101", "resnet110", "resnet152",
          "resnext101_64x4d", "senet154"}  # fmt: skip
"""Specs whose blocks another one has too."""
each_spec = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in DEEPER)) for n in zoo.names()]
)


def placed(
    placement: Path, stand_ins: Path, models: dict[str, onnx.ModelProto], folder: Path
) -> subprocess.CompletedProcess[str]:
    """What placement.py says of the models."""
    paths = []
    for name, proto in models.items():
        paths.append(folder / f"{name}.onnx")
        onnx.save(proto, paths[-1])
    return subprocess.run(
        [sys.executable, placement / "placement.py", *paths],
        env={**os.environ, "LD_LIBRARY_PATH": str(stand_ins)},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def astray(
    placement: Path, stand_ins: Path, tmp_path: Path
) -> Callable[[dict[str, onnx.ModelProto]], dict[str, str]]:
    """What is not on CUDA, by model; models that are there whole are left out."""

    def look(models: dict[str, onnx.ModelProto]) -> dict[str, str]:
        said = placed(placement, stand_ins, models, tmp_path)
        lines = said.stdout.splitlines()
        assert len(lines) == len(models), said.stderr
        found = {Path(line.partition(": ")[0]).stem: line for line in lines}
        assert all("nodes on CUDA" in line for line in lines)
        return {n: line for n, line in found.items() if not line.endswith("elsewhere: none")}

    return look


Astray = Callable[[dict[str, onnx.ModelProto]], dict[str, str]]


@each_spec
def test_steps_are_on_cuda(name: str, astray: Astray) -> None:
    made = cuda_graphs.steps(name, half=True)
    assert not astray({kind: cuda_graphs.model(step) for kind, step in made.items()})


@each_spec
def test_steps_are_fit_for_cuda(name: str) -> None:
    for kind, step in cuda_graphs.steps(name, half=True).items():
        assert not list(cuda_graphs.hazards(step.graph)), kind


RUN = [keyword for keyword, layer in LAYERS.items() if layer.lower is not Layer.lower]
"""The layers that are not only counted."""


@pytest.mark.parametrize("keyword", ["input", *RUN])
def test_every_layer_is_fit_for_cuda(keyword: str, tmp_path: Path) -> None:
    """The example of a layer, and its gradients where it can have a loss behind it."""
    spec = tmp_path / "example.net"
    example = dedent(LAYERS[keyword].example)
    made = 0
    for behind in (
        "",
        "\nsoftmax_loss\naccuracy\n",
        '\nfc "scores" { num_output: 4 }\nsoftmax_loss',
    ):
        spec.write_text(example + behind)
        try:
            steps = cuda_graphs.steps(str(spec), half=True)
        except NetspecError:
            continue
        for step in steps.values():
            made += 1
            assert not list(cuda_graphs.hazards(step.graph))
    assert made


AUGMENTED = """
data "train" {
  source: "x"  batch_size: 4
  transform {
    TRANSFORM  scale: 1/64  mean_value: [1, 2, 3]
  }
}
input "data" { shape: 3x16x16 }
fc { num_output: 4 }
softmax_loss
"""
TRANSFORMS = {
    "all": "rotation: 30  zoom: 2  shear: 9  stretch: 2  translation: 3  distortion: 0.1  pad: 2  "
    "crop_size: 16  mirror: true  flip_vertical: true  border: REFLECT  brightness: 0.2  "
    "contrast: 0.2  saturation: 0.2  hue: 0.1  cutout: 4",
    "resized": "resize: [16, 32]  crop_size: 16  mirror: true",
    "cut": "pad: 4  crop_size: 16  mirror: true  border: EDGE",
    "filled": "rotation: 30  fill: [1, 2, 3]",
}


def augmented(name: str, folder: Path) -> dict[str, BatchStep]:
    """The steps of a net whose images are augmented."""
    spec = folder / f"{name}.net"
    spec.write_text(AUGMENTED.replace("TRANSFORM", TRANSFORMS[name]))
    return cuda_graphs.steps(str(spec))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_augmentation_is_fit_for_cuda(name: str, tmp_path: Path) -> None:
    for step in augmented(name, tmp_path).values():
        assert not list(cuda_graphs.hazards(step.graph))
        assert all(CUDA.runs(op) for op in step.graph.ops)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_augmentation_is_on_cuda(name: str, tmp_path: Path, astray: Astray) -> None:
    made = augmented(name, tmp_path)
    assert not astray({kind: cuda_graphs.model(step) for kind, step in made.items()})


def test_updates_are_on_cuda(astray: Astray) -> None:
    assert not astray({name: cuda_graphs.update_model(name) for name in cuda_graphs.updates()})


def test_updates_are_fit_for_cuda() -> None:
    for name, step in cuda_graphs.updates().items():
        assert not list(cuda_graphs.hazards(step.graph)), name
        assert all(CUDA.runs(op) for op in step.graph.ops), name


def test_sessions_on_cuda_keep_our_order_and_fall_back_nowhere() -> None:
    options = session_options(Device("cuda"))
    assert options.get_session_config_entry("session.disable_cpu_ep_fallback") == "1"
    assert options.execution_order == ort.ExecutionOrder.PRIORITY_BASED
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    assert not options.enable_mem_pattern
    for tf32 in (False, True):
        ((name, given),) = Device("cuda", tf32=tf32).providers
        assert (name, given["use_tf32"]) == ("CUDAExecutionProvider", str(int(tf32)))


def test_hazards_are_seen() -> None:
    op = Builder()
    x = op.input("x", TensorType((2, 6, 8, 8)))
    w = op.input("w", TensorType((4, 6, 3, 3)))
    op.Conv(x, w, pads=(0, 0, 1, 1))
    op.ReduceSum(x, op.ints(0, 2, 3), keepdims=0)
    op.Split(x, op.ints(2, 4), outputs=2, axis=1)
    op.AveragePool(x, kernel_shape=(3, 3), pads=(0, 0, 1, 1))
    op.Concat(*[x] * 33, axis=1)
    made = op.graph([op.ops[-1].outputs[0]], name="hazards")
    assert len(list(cuda_graphs.hazards(made))) == 5


@pytest.mark.parametrize(
    ("sizes", "operators"), [((2, 4), {"Slice"}), ((3, 3), {"Split"}), ((1,) * 40, {"Slice"})]
)
def test_unequal_parts_are_cut(sizes: Shape, operators: set[str]) -> None:
    """A Split into unequal parts copies its table from the host in every run: four copies."""
    op = Builder()
    x = op.input("x", TensorType((2, sum(sizes), 4)))
    parts = op.Split(x, op.ints(*sizes), outputs=len(sizes), axis=1)
    graph = formulate(op.graph(list(parts), name="split"), CUDA).graph
    assert {node.op_type for node in graph.ops} == operators
    assert [v.type.shape[1] for v in graph.outputs] == list(sizes)


def test_many_parts_are_joined_some_at_a_time() -> None:
    op = Builder()
    parts = [op.input(f"x{i}", TensorType((2, 1 + i % 2, 4))) for i in range(70)]
    graph = formulate(op.graph([op.Concat(*parts, axis=1)], name="join"), CUDA).graph
    assert [len(node.inputs) for node in graph.ops] == [32, 32, 6, 3]
    assert graph.outputs[0].type.shape == (2, 105, 4)


def x(op: Builder, *shape: int, dtype: str = "float32") -> Value:
    return op.input(f"x{len(op.inputs)}", TensorType(shape or (2, 6, 8, 8), dtype))


def truth(op: Builder) -> Value:
    return x(op, 2, 6, dtype="bool")


UNARY = ("Abs", "Cos", "Elu", "Erf", "Exp", "Floor", "Identity", "IsNaN", "LeakyRelu", "Log",
         "LogSoftmax", "Neg", "Reciprocal", "Relu", "Sigmoid", "Sin", "Softmax", "Softplus", "Sqrt",
         "Tanh", "Transpose")  # fmt: skip
BINARY = ("Add", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min",
          "Mul", "Pow", "Sub", "Sum")  # fmt: skip
NODES: dict[str, Node] = {
    **{word: lambda op, word=word: getattr(op, word)(x(op)) for word in UNARY},
    **{word: lambda op, word=word: getattr(op, word)(x(op), x(op)) for word in BINARY},
    "And": lambda op: op.And(truth(op), truth(op)),
    "AveragePool": lambda op: op.AveragePool(x(op), kernel_shape=(3, 3), count_include_pad=1),
    "BatchNormalization": lambda op: op.BatchNormalization(x(op), *(x(op, 6) for _ in "sbmv")),
    "Cast": lambda op: op.Cast(x(op, 2, 3, dtype="uint8"), to="float32"),
    "Clip": lambda op: op.Clip(x(op), op.scalar(0), op.scalar(1)),
    "Concat": lambda op: op.Concat(x(op, 2, 3), x(op, 2, 4), axis=1),
    "Conv": lambda op: op.Conv(x(op), x(op, 4, 6, 3, 3), x(op, 4), pads=(1, 1, 1, 1)),
    "ConvTranspose": lambda op: op.ConvTranspose(
        x(op), x(op, 6, 4, 3, 3), strides=(2, 2), pads=(1, 1, 1, 1), output_padding=(1, 1)
    ),
    "CumSum": lambda op: op.CumSum(x(op), op.scalar(0, "int64")),
    "Expand": lambda op: op.Expand(x(op, 1, 6), op.ints(4, 6)),
    "Gather": lambda op: op.Gather(x(op, 8, 3, dtype="uint8"), x(op, 2, dtype="int64"), axis=0),
    "GatherElements": lambda op: op.GatherElements(x(op, 4, 6), x(op, 4, 6, dtype="int64"), axis=1),
    "Gemm": lambda op: op.Gemm(x(op, 4, 6), x(op, 5, 6), x(op, 5), transB=1),
    "LRN": lambda op: op.LRN(x(op), size=5),
    "MatMul": lambda op: op.MatMul(x(op, 4, 6), x(op, 6, 5)),
    "MaxPool": lambda op: op.MaxPool(x(op), outputs=2, kernel_shape=(3, 3), strides=(2, 2))[0],
    "Not": lambda op: op.Not(truth(op)),
    "OneHot": lambda op: op.OneHot(
        x(op, 4, dtype="int64"), op.scalar(9, "int64"), op.constant(np.array([0, 1], np.float32))
    ),
    "PRelu": lambda op: op.PRelu(x(op), x(op, 6, 1, 1)),
    "Pad": lambda op: op.Pad(x(op), op.ints(1, 1, 0, 1), op.scalar(0), op.ints(2, 3)),
    "RandomUniform": lambda op: op.RandomUniform(shape=(2, 6), seed=1.0),
    "ReduceMax": lambda op: op.ReduceMax(x(op), op.ints(2, 3), keepdims=1),
    "ReduceMean": lambda op: op.ReduceMean(x(op), op.ints(2, 3), keepdims=1),
    "ReduceSum": lambda op: op.ReduceSum(x(op), op.ints(2, 3), keepdims=0),
    "Reshape": lambda op: op.Reshape(x(op, 2, 6, dtype="int64"), op.ints(3, 4)),
    "Resize": lambda op: op.Resize(x(op), None, None, op.ints(2, 6, 16, 16), mode="nearest"),
    "ScatterElements": lambda op: op.ScatterElements(
        x(op, 4, 6), x(op, 4, 3, dtype="int64"), x(op, 4, 3), axis=1, reduction="add"
    ),
    "Slice": lambda op: op.Slice(x(op), op.ints(-1), op.ints(-9), op.ints(2), op.ints(-1)),
    "Split": lambda op: op.Split(x(op), op.ints(3, 3), outputs=2, axis=1)[0],
    "Squeeze": lambda op: op.Squeeze(x(op, 2, 1, 3), op.ints(1)),
    "Tile": lambda op: op.Tile(x(op), op.ints(1, 3, 1, 1)),
    "TopK": lambda op: op.TopK(x(op), op.ints(3), outputs=2, axis=1)[0],
    "Unsqueeze": lambda op: op.Unsqueeze(x(op, 2, 3), op.ints(1)),
    "Where": lambda op: op.Where(truth(op), x(op, 2, 6), x(op, 2, 6)),
}  # fmt: skip
INTEGERS: dict[str, Node] = {
    "Sub": lambda op: op.Sub(x(op, 2, 6, dtype="int64"), x(op, 2, 1, dtype="int64")),
    "Add": lambda op: op.Add(x(op, 2, 6, dtype="int64"), x(op, 2, 6, dtype="int64")),
    "Mul": lambda op: op.Mul(x(op, 2, 6, dtype="int64"), op.scalar(3, "int64")),
    "Div": lambda op: op.Div(x(op, 2, 6, dtype="int64"), op.scalar(3, "int64")),
    "Equal": lambda op: op.Equal(x(op, 6, dtype="int64"), op.scalar(3, "int64")),
    "Gather": lambda op: op.Gather(x(op, 8, dtype="int64"), x(op, 2, dtype="int64"), axis=0),
    "Cast": lambda op: op.Cast(truth(op), to="float32"),
    "Where": lambda op: op.Where(truth(op), x(op, 2, 6), op.scalar(0)),
    "Cast to int32": lambda op: op.Cast(x(op, 2, 6), to="int32"),
    "Cast of int32": lambda op: op.Cast(x(op, 2, 6, dtype="int32"), to="float32"),
    "Add of int32": lambda op: op.Add(x(op, 2, 6, dtype="int32"), op.scalar(3, "int32")),
    "Mul of int32": lambda op: op.Mul(x(op, 2, 6, dtype="int32"), op.scalar(3, "int32")),
    "Expand of int32": lambda op: op.Expand(x(op, 1, 6, dtype="int32"), op.ints(4, 6)),
    "GatherElements by int32": lambda op: op.GatherElements(
        x(op, 4, 6), x(op, 4, 9, dtype="int32"), axis=1
    ),
    "Pad by the edge": lambda op: op.Pad(
        x(op), op.ints(1, 1, 2, 2), None, op.ints(2, 3), mode="edge"
    ),
    "Pad by reflection": lambda op: op.Pad(
        x(op), op.ints(1, 1, 2, 2), None, op.ints(2, 3), mode="reflect"
    ),
    "Max of three": lambda op: op.Max(x(op), x(op), x(op)),
    "Resize, linear": lambda op: op.Resize(
        x(op), None, None, op.ints(12, 12), axes=(2, 3), mode="linear"
    ),
}
"""Operators with the other types that graphs have for them."""
ONE_AXIS: dict[str, Node] = {
    "AveragePool": lambda op: op.AveragePool(x(op, 2, 6, 9), kernel_shape=(3,), ceil_mode=1),
    "Conv": lambda op: op.Conv(x(op, 2, 6, 9), x(op, 4, 6, 3), x(op, 4), pads=(1, 1)),
    "ConvTranspose": lambda op: op.ConvTranspose(x(op, 2, 6, 9), x(op, 6, 4, 3), strides=(2,)),
    "MaxPool": lambda op: op.MaxPool(x(op, 2, 6, 9), outputs=2, kernel_shape=(3,))[0],
    "Resize": lambda op: op.Resize(
        x(op, 2, 6, 9), None, op.constant(np.array([1, 1, 2], np.float32)), mode="nearest"
    ),
}
"""Operators over channels x length."""
THREE_AXES: dict[str, Node] = {
    "Conv": lambda op: op.Conv(x(op, 2, 6, 5, 8, 8), x(op, 4, 6, 3, 3, 3), pads=(1,) * 6),
    "ConvTranspose": lambda op: op.ConvTranspose(
        x(op, 2, 6, 5, 8, 8), x(op, 6, 4, 3, 3, 3), strides=(2,) * 3, output_padding=(1,) * 3
    ),
    "PRelu": lambda op: op.PRelu(x(op, 2, 6, 5, 8, 8), x(op, 6, 1, 1, 1)),
    "Pad": lambda op: op.Pad(x(op, 2, 6, 5, 8, 8), op.ints(*(1,) * 6), None, op.ints(2, 3, 4)),
    "Slice": lambda op: op.Slice(
        x(op, 2, 6, 5, 8, 8), op.ints(0, 1, 2), op.ints(4, 7, 8), op.ints(2, 3, 4), op.ints(2, 2, 2)
    ),
}
"""Operators over channels x depth x height x width."""
ABSENT = ("Atan", "Celu", "Mean", "Tan")
"""Operators without a kernel on CUDA; some of them look harmless."""


def alone(node: Node) -> onnx.ModelProto:
    op = Builder()
    y = node(op)
    return emit(op.graph([y], name=op.ops[-1].op_type))


def test_the_table_says_what_is_on_cuda(astray: Astray) -> None:
    assert NODES.keys() == target._ON_CUDA
    models = {name: alone(node) for name, node in NODES.items() if name != "LRN"}
    others = {f"{word}, other type": alone(node) for word, node in INTEGERS.items()}
    lines = {f"{word}, one axis": alone(node) for word, node in ONE_AXIS.items()}
    volumes = {f"{word}, three axes": alone(node) for word, node in THREE_AXES.items()}
    assert not astray(models | others | lines | volumes)


def halved(node: Node) -> onnx.ModelProto:
    """The operator over float16."""
    op, half = Builder(), Builder()
    node(op)
    made = op.ops[-1]
    inputs: list[Value | None] = []
    for value in made.inputs:
        if value in op.constants and value is not None:
            array = op.constants[value]
            inputs.append(
                half.constant(array.astype(np.float16) if array.dtype == np.float32 else array)
            )
        elif value is not None:
            dtype = "float16" if value.type.dtype == "float32" else value.type.dtype
            inputs.append(half.input(value.name, TensorType(value.type.shape, dtype)))
        else:
            inputs.append(None)
    outputs = half.append(word(made), inputs, len(made.outputs), made.attrs)
    return emit(half.graph(outputs, name=made.op_type))


def test_the_table_says_what_is_on_cuda_in_float16(astray: Astray) -> None:
    products: Node = lambda op: op.FusedMatMul(x(op, 2, 4, 6), x(op, 2, 5, 6), transB=1)  # noqa: E731
    nodes = {**NODES, "FusedMatMul": products}
    words = target._HALF["cuda"]
    assert target._HALF["cpu"] < words
    assert not astray({word: halved(nodes[word]) for word in words})


def test_the_cpu_moves_float16_without_casts(tmp_path: Path) -> None:
    """Casts that onnxruntime puts in it takes out in pairs, and a rounding with them."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.optimized_model_filepath = str(tmp_path / "made.onnx")
    for name in target._HALF["cpu"]:
        model = halved(NODES[name]).SerializeToString()
        ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        made = onnx.load(options.optimized_model_filepath).graph.node
        assert [node.op_type for node in made] == [name]


def test_what_is_not_on_cuda_is_not_in_the_table(astray: Astray) -> None:
    found = astray({word: single(word, [2, 6]) for word in ABSENT})
    assert list(found) == list(ABSENT)
    assert not target._ON_CUDA & set(ABSENT)


def single(op_type: str, shape: list[int]) -> onnx.ModelProto:
    """A model of one node, in words that a Builder may not have."""
    ports = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in "xy"
    ]
    node = onnx.helper.make_node(op_type, ["x"], ["y"], name=op_type)
    graph = onnx.helper.make_graph([node], op_type, ports[:1], ports[1:])
    opset = [onnx.helper.make_opsetid("", 18)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)


def test_lrn_is_on_cuda(placement: Path, stand_ins: Path, tmp_path: Path) -> None:
    """Without cuDNN its session is not made, but it is the CUDA kernel that says so."""
    said = placed(placement, stand_ins, {"lrn": alone(NODES["LRN"])}, tmp_path)
    assert "providers/cuda/nn/lrn.cc" in said.stderr
