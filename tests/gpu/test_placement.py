"""Where onnxruntime's CUDA provider puts the nodes of every graph of a training: all on CUDA.

The real provider of the `onnxruntime-gpu` wheel is loaded without a GPU, over the stand-in CUDA
libraries of `../shared/gpu/placement`, which live in a temporary folder and are seen by a child
process alone. That shows placement. Only a run on a GPU can show the rest: that kernels give the
right numbers (cuDNN refuses some convolutions when they run, not before), that the state stays on
the device from step to step, what a step costs, and that the step survives CUDA-graph capture.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution, files
from pathlib import Path

import onnx
import pytest

from netspec import zoo
from netspec.autodiff import grad
from netspec.codegen.emit import emit
from netspec.codegen.solvers import SOLVERS, update_rule
from netspec.codegen.step import BatchStep, evaluation_graph, gradient_graph
from netspec.codegen.target import CUDA
from netspec.codegen.update import StatisticGroup, WeightGroup, update_graph
from netspec.compiler import elaborate, read
from netspec.ir.net import Net
from netspec.ir.sections import Solver, Transform
from netspec.ir.types import TensorType

PLACEMENT = Path(__file__).parents[3] / "shared" / "gpu" / "placement"
BATCH, SAMPLES = 2, 8


def cuda_headers() -> Path | None:
    """CUDA 13's headers: the toolkit's, or those of the package `nvidia-cuda-runtime`."""
    folders = sorted(Path("/usr/local").glob("cuda*/include"), reverse=True)
    try:
        packaged = files("nvidia-cuda-runtime") or []
    except PackageNotFoundError:
        packaged = []
    folders += [Path(str(f.locate())).parent for f in packaged if f.name == "cuda_runtime.h"]
    return next((f for f in folders if (f / "cuda_runtime_api.h").is_file()), None)


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the stand-in libraries, built for this session."""
    if not (PLACEMENT / "build.sh").is_file():
        pytest.skip(f"{PLACEMENT} is missing")
    try:
        distribution("onnxruntime-gpu")
    except PackageNotFoundError:
        pytest.skip("the wheel onnxruntime-gpu is not installed")
    if shutil.which("g++") is None:
        pytest.skip("g++ is missing")
    headers = cuda_headers()
    if headers is None:
        pytest.skip("CUDA's headers are missing: `pip install nvidia-cuda-runtime` brings them")
    folder = tmp_path_factory.mktemp("stand-ins")
    subprocess.run(
        ["bash", PLACEMENT / "build.sh", folder],
        check=True,
        env={**os.environ, "CUDA_INCLUDE": str(headers)},
    )
    return folder


def model(step: BatchStep) -> onnx.ModelProto:
    return emit(step.graph, names=step.names)


def types(net: Net) -> dict[str, TensorType]:
    """Whole data sets of bytes, as they are kept."""
    pad = transform(net).pad
    images = {
        name: TensorType((SAMPLES, t.channels, *(n - 2 * pad for n in t.spatial)), "uint8")
        for name, t in net.inputs.items()
        if name != "label"
    }
    return {**images, "label": TensorType((SAMPLES,), "int64")}


def transform(net: Net) -> Transform:
    """The spec's, or one for nets without a data section."""
    return net.data.transform if net.data else Transform(mean_value=(120.0,), scale=1 / 64)


def step_graphs(name: str) -> dict[str, onnx.ModelProto]:
    """A spec's gradients and evaluation, with bytes that are normalised in the graph."""
    nets = elaborate(read(name), batch=BATCH)
    train, test = nets.train.net, nets.test.net
    evaluation = {n: t for n, t in types(test).items() if n in test.inputs}
    return {
        "gradient": model(gradient_graph(train, types(train), transform(train), CUDA, grad)),
        "evaluation": model(evaluation_graph(test, evaluation, transform(test), CUDA)),
    }


def without_lrn(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Identity in place of LRN, whose CUDA kernel asks cuDNN when it is made."""
    for node in proto.graph.node:
        if node.op_type == "LRN":
            node.op_type = "Identity"
            del node.attribute[:]
    return proto


def single(op_type: str, shape: list[int], **attributes: float) -> onnx.ModelProto:
    """A model of one node."""
    ports = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in "xy"
    ]
    node = onnx.helper.make_node(op_type, ["x"], ["y"], **attributes)
    graph = onnx.helper.make_graph([node], op_type, ports[:1], ports[1:])
    opset = [onnx.helper.make_opsetid("", 18)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)


def update_model(kind: str) -> onnx.ModelProto:
    """A solver's update of two groups of weights and one of statistics, as CUDA gets it."""
    solver = Solver(type=kind, base_lr=0.1, momentum=0.9, weight_decay=1e-3, max_iter=1)
    groups = [WeightGroup("0", 1024), WeightGroup("1", 256, lr_mult=2.0, decay_mult=0.0)]
    step = update_graph(groups, [StatisticGroup("0", 256, 0.1)], update_rule(solver), guarded=True)
    return emit(step.graph, names=step.names)


def placed(
    stand_ins: Path, models: dict[str, onnx.ModelProto], folder: Path
) -> subprocess.CompletedProcess[str]:
    """What placement.py says of the models."""
    paths = []
    for name, proto in models.items():
        paths.append(folder / f"{name}.onnx")
        onnx.save(proto, paths[-1])
    return subprocess.run(
        [sys.executable, PLACEMENT / "placement.py", *paths],
        env={**os.environ, "LD_LIBRARY_PATH": str(stand_ins)},
        capture_output=True,
        text=True,
    )


def astray(stand_ins: Path, models: dict[str, onnx.ModelProto], folder: Path) -> list[str]:
    """The lines about models that are not on CUDA whole."""
    said = placed(stand_ins, models, folder)
    lines = said.stdout.splitlines()
    assert len(lines) == len(models), said.stderr
    assert all("nodes on CUDA" in line for line in lines)
    return [line for line in lines if not line.endswith("elsewhere: none")]


@pytest.mark.parametrize("name", zoo.names())
def test_steps_are_on_cuda(name: str, stand_ins: Path, tmp_path: Path) -> None:
    assert not astray(stand_ins, step_graphs(name), tmp_path)


def test_updates_are_on_cuda(stand_ins: Path, tmp_path: Path) -> None:
    assert not astray(stand_ins, {kind: update_model(kind) for kind in SOLVERS}, tmp_path)


def test_a_node_astray_is_seen(stand_ins: Path, tmp_path: Path) -> None:
    """The check itself: CUDA has no kernel for Tan."""
    (line,) = astray(stand_ins, {"tan": single("Tan", [2])}, tmp_path)
    assert "'Tan': 1" in line


def test_lrn_is_on_cuda(stand_ins: Path, tmp_path: Path) -> None:
    """Without cuDNN its session is not made, but it is the CUDA kernel that says so."""
    said = placed(stand_ins, {"lrn": single("LRN", [1, 8, 4, 4], size=5)}, tmp_path)
    assert "providers/cuda/nn/lrn.cc" in said.stderr
