"""The compiled model: well formed, named after the spec, of any batch size, always the same."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from netspec import zoo
from netspec.compiler import Compiled, Spec, compile_spec, read
from netspec.ir.layer import Role

Compile = Callable[[str], Compiled]
each_spec = pytest.mark.parametrize("name", zoo.names())
PROBABILITIES = ("prob",)
ENDS = {
    "inception_naive": ("module/concat1",),
    "inception_reduced": ("module/concat1",),
    "localizer": ("where/corners", "prob"),
    "pose": ("pose",),
    "siamese": ("point/feat",),
    "svm_cifar": ("score",),
    "triplet": ("face/l2_normalize1",),
}
"""What a net puts out, if not the probabilities of classes alone."""


def run(model: onnx.ModelProto, x: NDArray[Any]) -> dict[str, NDArray[Any]]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    ends = [end.name for end in session.get_outputs()]
    return dict(zip(ends, map(np.asarray, session.run(None, {"data": x})), strict=True))


@each_spec
def test_well_formed(name: str, compiled: Compile) -> None:
    model = compiled(name).model
    onnx.checker.check_model(model, full_check=True)
    assert [(i.domain, i.version) for i in model.opset_import] == [("", 18)]
    assert model.ir_version == 8
    (x,), ends = model.graph.input, model.graph.output
    assert x.name == "data"
    assert tuple(end.name for end in ends) == ENDS.get(name, PROBABILITIES)
    for end in (x, *ends):
        batch, *rest = end.type.tensor_type.shape.dim
        assert batch.dim_param == "N"
        assert all(d.dim_value > 0 for d in rest)


@each_spec
def test_any_batch_is_the_fixed_one(
    name: str, compiled: Compile, small: Callable[[str], Spec]
) -> None:
    made = compiled(name)
    sample = made.net.inputs["data"].sample
    x = np.random.default_rng(0).standard_normal((5, *sample)).astype(np.float32)
    five = run(made.model, x)
    if "prob" in five:
        np.testing.assert_allclose(five["prob"].sum(1), 1, atol=1e-5)
    ones = [run(made.model, x[i : i + 1]) for i in range(5)]
    fixed = compile_spec(small(name), seed=1, batch=5).model
    assert fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 5
    same = run(fixed, x)
    for end, y in five.items():
        assert y.shape[0] == 5
        np.testing.assert_allclose(y, np.concatenate([one[end] for one in ones]), atol=1e-6)
        np.testing.assert_allclose(y, same[end], atol=1e-6)


@each_spec
def test_blobs_and_nodes_are_called_as_in_the_spec(name: str, compiled: Compile) -> None:
    made = compiled(name)
    graph = made.model.graph
    hidden = [node for node in made.net.nodes if node.layer.role is not Role.INPUT]
    blobs = {t for node in hidden for t in node.tops if node.layer.keyword != "dropout"}
    assert blobs <= {output for node in graph.node for output in node.output}
    layers = {node.name for node in hidden}
    names = [node.name for node in graph.node]
    assert len(set(names)) == len(names)
    assert {name.rpartition("/")[0] for name in names} <= layers
    weights = {p.name for p in made.net.parameters} | set(made.net.statistics)
    assert weights <= {tensor.name for tensor in graph.initializer}


@each_spec
def test_only_prediction_is_left(name: str, compiled: Compile) -> None:
    made = compiled(name)
    assert {node.layer.role for node in made.net.nodes} <= {Role.INPUT, Role.HIDDEN}
    assert {node.op_type for node in made.model.graph.node}.isdisjoint({"Dropout", "Identity"})
    assert "label" not in {i.name for i in made.model.graph.input}
    assert not [node.name for node in made.net.nodes if node.name.startswith("aux")]


@each_spec
def test_metadata(name: str, compiled: Compile) -> None:
    metadata = {p.key: p.value for p in compiled(name).model.metadata_props}
    assert metadata["dev.netspec.name"] == compiled(name).net.name
    assert len(metadata["dev.netspec.source_sha256"]) == 64
    preprocessing = json.loads(metadata["dev.netspec.preprocessing"])
    assert isinstance(preprocessing, dict)
    if name == "lenet":
        assert preprocessing["scale"] == pytest.approx(1 / 255)


@pytest.mark.parametrize(
    ("name", "choice"),
    [
        ("alexnet", "group = 1"), ("alexnet", "lrn = 0"), ("resnet50", "early = true"),
        ("resnet20", "option_a = true"),
        ("se_resnet50", "early = false"),
        ("squeezenet1_0", "pad10 = 0"), ("wrn_28_10", "dropout = 0.3"),
    ],
)  # fmt: skip
def test_where_sources_disagree_the_other_choice_compiles(
    name: str, choice: str, small: Callable[..., Spec]
) -> None:
    let = choice.partition("=")[0]

    def choose(text: str) -> str:
        text, count = re.subn(rf"^let {let}= \S+", f"let {choice}", text, flags=re.MULTILINE)
        assert count == 1
        return text

    assert compile_spec(small(name, edit=choose), seed=1).difference < 1e-4


def test_classes_are_named() -> None:
    model = compile_spec(read("lenet"), classes=["zero", "one"]).model
    (names,) = (p.value for p in model.metadata_props if p.key == "names")
    assert json.loads(names) == {"0": "zero", "1": "one"}


@pytest.mark.parametrize("name", ["lenet", "resnet20"])
def test_same_bytes_in_every_process(name: str, tmp_path: Path) -> None:
    files = []
    for seed in ("1", "2"):
        files.append(tmp_path / f"{seed}.onnx")
        subprocess.run(
            [sys.executable, "-m", "netspec", "compile", name, "-o", str(files[-1])],
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_seed_draws_the_weights() -> None:
    one, same, other = (compile_spec(read("lenet"), seed=s).model for s in (1, 1, 2))
    assert one.SerializeToString() == same.SerializeToString()
    assert one.SerializeToString() != other.SerializeToString()


@pytest.mark.slow
@each_spec
def test_full_size(name: str) -> None:
    made = compile_spec(read(name))
    assert made.difference < 1e-4
    nodes = made.net.nodes
    said = {top: t for n in nodes for top, t in zip(n.tops, n.top_types, strict=True)}
    for y in made.model.graph.output:
        sizes = [d.dim_value for d in y.type.tensor_type.shape.dim]
        assert sizes == [0, *said[y.name].sample]
