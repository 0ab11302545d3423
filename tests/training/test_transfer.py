"""A net that starts from another's weights: what is taken, what is told, what stays frozen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fakes import Ear
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from netspec.caffe.match import Match
from netspec.codegen.target import CPU_PLAIN
from netspec.compiler import compile_step, read
from netspec.diagnostics import DataError, UsageError
from netspec.training.launch import train
from netspec.training.loop import Listener
from netspec.training.runs.run import Run

TRUNK = """block trunk() {
  conv "conv1" { num_output: 4  kernel_size: 3 }  batch_norm "bn1"  relu
}
"""

NET = """name: "NAME"
include "trunk.net"
data "train" { source: "samples.npz"  batch_size: 4  transform { scale: 1/255 } }
input "data" { shape: 3x8x8 }
trunk() "trunk"
fc "NAME" { num_output: 3 }
softmax_loss
solver { base_lr: 0.01  max_iter: 3 }
"""


class Heard(Listener):
    """Remembers how the weights matched."""

    match: Match | None = None

    def matched(self, match: Match) -> None:
        self.match = match


def spec(folder: Path, name: str) -> Path:
    """A net of its own head on the trunk that all share."""
    chance = np.random.default_rng(0)
    data = chance.integers(0, 256, (12, 3, 8, 8), np.uint8)
    np.savez(folder / "samples.npz", data=data, label=chance.integers(0, 3, 12))
    (folder / "trunk.net").write_text(TRUNK)
    path = folder / f"{name}.net"
    path.write_text(NET.replace("NAME", name))
    return path


def begun(folder: Path, weights: Path, **wishes: Any) -> tuple[dict[str, NDArray[Any]], Match]:
    """The weights before the first step of a training that starts from `weights`."""
    heard = Heard()
    source = read(str(spec(folder, "b")), sets=["solver.max_iter=0"])
    outcome = train(source, runs=folder / "begun", weights=[weights], listener=heard, **wishes)
    assert heard.match is not None
    return Run.open(outcome.run).weights(), heard.match


@pytest.fixture
def trained(tmp_path: Path) -> Run:
    return Run.open(train(read(str(spec(tmp_path, "a"))), runs=tmp_path / "runs").run)


FROZEN = """name: "frozen"
include "trunk.net"
data "train" { source: "samples.npz"  batch_size: 12  shuffle: false  transform { scale: 1/255 } }
data "test" { source: "samples.npz"  batch_size: 12  transform { scale: 1/255 } }
input "data" { shape: 3x8x8 }
trunk() "trunk"
dropout "still"
fc "b" { num_output: 3 }
softmax_loss
solver { base_lr: 0.01  momentum: 0.9  max_iter: 3  display: 1  test_initialization: true
         freeze: ["trunk", "st*"] }
"""


def test_what_is_frozen_stays_and_infers(trained: Run, tmp_path: Path) -> None:
    """Batch norm reads its running statistics and dropout drops nothing: the first training loss
    is that of the test before it."""
    (tmp_path / "frozen.net").write_text(FROZEN)
    outcome = train(
        read(str(tmp_path / "frozen.net")), runs=tmp_path / "frozen", weights=[trained.path]
    )
    run = Run.open(outcome.run)
    ours, theirs = run.weights(), trained.weights()
    for name in ours:
        if name.startswith("trunk/"):
            np.testing.assert_array_equal(ours[name], theirs[name])
    rows = [dict(zip(*pair, strict=True)) for pair in logged(run)]
    assert float(rows[1]["loss"]) == pytest.approx(float(rows[0]["test_loss"]), rel=1e-5)
    assert float(rows[2]["loss"]) < float(rows[1]["loss"])


def test_what_is_frozen_as_it_is_drawn_is_told(tmp_path: Path) -> None:
    spec(tmp_path, "a")
    (tmp_path / "frozen.net").write_text(FROZEN)
    ear = Ear()
    train(read(str(tmp_path / "frozen.net")), runs=tmp_path / "frozen", listener=ear)
    assert "`freeze` without `--weights`: what is frozen stays as it is drawn" in ear.of("warned")


def logged(run: Run) -> list[tuple[list[str], list[str]]]:
    header, *rows = (line.split(",") for line in run.log.read_text().splitlines())
    return [(header, row) for row in rows]


def test_the_frozen_part_costs_no_gradient(tmp_path: Path) -> None:
    spec(tmp_path, "a")
    (tmp_path / "frozen.net").write_text(FROZEN)
    frozen, free = (
        compile_step(read(str(tmp_path / "frozen.net"), sets=sets), CPU_PLAIN)
        for sets in ([], ["solver.freeze=[]"])
    )
    assert set(frozen.gradients) == {"b.weight", "b.bias"}
    assert not frozen.observed
    assert set(free.gradients) > {"b.weight", "trunk/conv1.weight"}
    assert set(free.observed) == {"trunk/bn1.running_mean", "trunk/bn1.running_var"}


def as_run(trained: Run) -> Path:
    return trained.path


def as_npz(trained: Run) -> Path:
    path = trained.path / "weights.npz"
    np.savez(path, **trained.weights())  # type: ignore[arg-type]
    return path


def as_onnx(trained: Run) -> Path:
    return trained.model_file


def as_safetensors(trained: Run) -> Path:
    path = trained.path / "w.safetensors"
    save_file(trained.weights(), path)
    return path


@pytest.mark.parametrize("form", [as_run, as_npz, as_onnx, as_safetensors])
def test_a_trunk_comes_from_another_net(
    form: Callable[[Run], Path], trained: Run, tmp_path: Path
) -> None:
    ours, match = begun(tmp_path, form(trained))
    theirs = trained.weights()
    shared = [name for name in ours if name.startswith("trunk/")]
    assert len(shared) == 6  # weight and bias twice, mean and variance
    for name in shared:
        np.testing.assert_array_equal(ours[name], theirs[name])
    assert set(match.missing) == {"b.weight", "b.bias"}
    assert {"a.weight", "a.bias"} <= {row.layer for row in match.table if row.verdict == "ignored"}


def test_another_shape_is_refused_unless_it_is_passed_over(trained: Run, tmp_path: Path) -> None:
    given = trained.weights()
    given["trunk/conv1.weight"] = given["trunk/conv1.weight"][:2]
    np.savez(tmp_path / "w.npz", **given)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"`trunk/conv1\.weight` is 2x3x3x3, the net has 4x3x3x3"):
        begun(tmp_path, tmp_path / "w.npz")
    _, match = begun(tmp_path, tmp_path / "w.npz", ignore_mismatch=True)
    assert "trunk/conv1.weight" in match.missing


def test_a_run_that_is_not_finished_gives_none(trained: Run, tmp_path: Path) -> None:
    trained.weights_file.unlink()
    with pytest.raises(UsageError, match=r"has no weights\.safetensors"):
        begun(tmp_path, trained.path)


def test_weights_of_a_stranger_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", other=np.zeros(3, np.float32))
    said = r"holds no tensor of the net: it has `other`, and the net `\S+`, `\S+`, `\S+`, …"
    with pytest.raises(DataError, match=said):
        begun(tmp_path, tmp_path / "w.npz")


@pytest.mark.parametrize("kind", [np.float64, np.float16])
def test_floats_of_other_sizes_become_ours(kind: type, trained: Run, tmp_path: Path) -> None:
    name = "trunk/conv1.weight"
    given = trained.weights()[name].astype(kind)
    np.savez(tmp_path / "w.npz", **{name: given})
    ours, _ = begun(tmp_path, tmp_path / "w.npz")
    np.testing.assert_array_equal(ours[name], given.astype(np.float32))


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e39])
def test_what_is_not_finite_is_no_weight(value: float, trained: Run, tmp_path: Path) -> None:
    given = trained.weights()["trunk/conv1.weight"].astype(np.float64)
    given[1, 2, 0] = value
    np.savez(tmp_path / "w.npz", **{"trunk/conv1.weight": given})
    said = r"w\.npz: 3 of 108 values of `trunk/conv1\.weight` are not finite in float32"
    with pytest.raises(DataError, match=said):
        begun(tmp_path, tmp_path / "w.npz")


def model(*tensors: onnx.TensorProto) -> bytes:
    graph = helper.make_graph([], "g", [], [], initializer=tensors)
    return bytes(helper.make_model(graph).SerializeToString())


def outside() -> bytes:
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), "trunk/conv1.bias")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return model(tensor)


def lying() -> bytes:
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), "trunk/conv1.bias")
    tensor.dims[0] = 2**40
    return model(tensor)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xff\xff", "not an ONNX model"),
        (b"\n\x00", "no ONNX model with weights"),
        (model(), "no ONNX model with weights"),
        (outside(), "keeps `trunk/conv1.bias` in another file"),
        (lying(), "`trunk/conv1.bias`: "),
    ],
)
def test_models_that_give_no_weights(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "w.onnx").write_bytes(content)
    with pytest.raises(DataError, match=said):
        begun(tmp_path, tmp_path / "w.onnx")
