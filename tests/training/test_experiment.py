"""What an experiment refuses, and what it feeds to which input."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from netspec.compiler import compile_spec, elaborate, read
from netspec.diagnostics import NetspecError, UsageError
from netspec.training.execution.bound import BoundBatch
from netspec.training.launch import train
from netspec.training.listener import Listener
from netspec.training.outcome import Diverged, Stopped
from netspec.training.runs.run import Run
from netspec.training.runs.snapshot import Snapshot
from netspec.training.setup.experiment import Experiment, prepare

_SOLVER = "solver { base_lr: 0.01  max_iter: 4  display: 1 }"


def written(
    folder: Path, layers: str, *, batch: int = 4, solver: str = _SOLVER, **arrays: object
) -> Path:
    """A spec on a small `.npz` beside it."""
    generator = np.random.default_rng(0)
    samples = {
        "data": generator.integers(0, 256, (12, 3, 8, 8), np.uint8),
        "label": generator.integers(0, 3, 12),
        **arrays,
    }
    np.savez(folder / "samples.npz", **samples)  # type: ignore[arg-type]
    sections = "".join(
        f'data "{phase}" {{ source: "samples.npz"  batch_size: {batch}  '
        "transform { scale: 1/255 } }\n"
        for phase in ("train", "test")
    )
    path = folder / "net.net"
    path.write_text(f"{sections}{layers}\n{solver}\n")
    return path


class Heard(Listener):
    """Remembers warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warned(self, message: str) -> None:
        self.warnings.append(message)


def test_the_transform_is_for_the_image_wherever_it_is_declared(tmp_path: Path) -> None:
    inputs = ['input "meta" { shape: 6 }', 'input "data" { shape: 3x8x8 }']
    rest = """
        fc "f" { bottom: "data"  num_output: 3 }
        fc "m" { bottom: "meta"  num_output: 3 }
        eltwise { bottom: "f"  bottom: "m" }
        softmax_loss
    """
    meta = np.random.default_rng(1).standard_normal((12, 6)).astype(np.float32)
    losses = []
    for order in (inputs, inputs[::-1]):
        spec = read(str(written(tmp_path, "\n".join(order) + rest, meta=meta)))
        assert elaborate(spec).train.net.transformed == ("data",)
        losses.append(train(spec, runs=tmp_path / "runs", device="cpu").test["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0] < 5  # with bytes left as they are it is in the hundreds


def test_padding_reaches_an_image_of_any_name(tmp_path: Path) -> None:
    layers = 'input "image" { shape: 3x12x12 }  fc { num_output: 3 }  softmax_loss'
    image = np.zeros((12, 3, 8, 8), np.uint8)
    path = written(tmp_path, layers, image=image)
    path.write_text(path.read_text().replace("scale: 1/255", "pad: 2"))
    assert train(read(str(path)), runs=tmp_path / "runs", device="cpu").ran == 4


@pytest.mark.parametrize(
    ("layers", "batch", "message"),
    [
        (
            'input "data" { shape: 3x8x8 }  fc { num_output: 3  param { lr_mult: 0 }  '
            "param { lr_mult: 0 } }  softmax_loss",
            4,
            "no weight to train",
        ),
        (
            'input "data" { shape: 3x8x8 }  fc { num_output: 3 }  batch_norm  softmax_loss',
            1,
            "layer `batch_norm1`: TRAIN has one cell per channel",
        ),
    ],
)
def test_what_cannot_be_trained_is_said(
    tmp_path: Path, layers: str, batch: int, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        train(read(str(written(tmp_path, layers, batch=batch))), runs=tmp_path, device="cpu")


def test_weights_of_the_test_phase_alone_are_named(tmp_path: Path) -> None:
    layers = """
        input "data" { shape: 3x8x8 }
        fc { num_output: 3  include { phase: TRAIN } }
        fc { num_output: 4  include { phase: TEST } }
        softmax_loss
    """
    heard = Heard()
    path = written(tmp_path, layers)
    train(read(str(path)), runs=tmp_path / "runs", device="cpu", listener=heard)
    assert any("`fc2.weight` is in phase TEST only" in warning for warning in heard.warnings)


def test_a_training_that_ends_in_overflow_has_diverged(tmp_path: Path) -> None:
    layers = (
        'input "data" { shape: 3x8x8 }  fc { num_output: 9 }  relu  fc { num_output: 3 }  '
        "softmax_loss"
    )
    path = written(tmp_path, layers, solver="solver { base_lr: 1e30  max_iter: 2 }")
    with pytest.raises(Diverged, match="a lower base_lr may help"):
        train(read(str(path)), runs=tmp_path / "runs", device="cpu")
    assert not list(tmp_path.glob("runs/*/*/weights.safetensors"))


def test_a_weight_called_as_an_input_leaves_the_input_its_name(tmp_path: Path) -> None:
    path = tmp_path / "net.net"
    path.write_text('input "data" { shape: 3 }  fc { num_output: 2  param { name: "data" } }')
    model = compile_spec(read(str(path))).model
    assert [value.name for value in model.graph.input] == ["data"]


def test_a_reader_that_leaves_does_not_end_the_training(tmp_path: Path) -> None:
    layers = 'input "data" { shape: 3x8x8 }  fc { num_output: 3 }  softmax_loss'
    path = written(tmp_path, layers)
    command = f"{sys.executable} -m netspec train {path} --runs {tmp_path}/runs --json | head -n 1"
    subprocess.run(["bash", "-o", "pipefail", "-c", command], check=True, capture_output=True)
    assert list(tmp_path.glob("runs/*/*/model.onnx"))


def test_a_spec_without_data_is_refused() -> None:
    with pytest.raises(NetspecError, match="training needs a"):
        train(read("vgg16"), device="cpu")


@pytest.mark.parametrize(("outputs", "told"), [(3, 0), (5, 1)])
def test_classes_that_no_label_names_are_told(tmp_path: Path, outputs: int, told: int) -> None:
    layers = f'input "data" {{ shape: 3x8x8 }}\nfc "scores" {{ num_output: {outputs} }}\n'
    path = written(tmp_path, layers + "softmax_loss")
    warnings: list[str] = []

    class Heard(Listener):
        def warned(self, message: str) -> None:
            warnings.append(message)

    train(read(str(path)), runs=tmp_path / "runs", device="cpu", listener=Heard())
    said = "`scores` tells 5 classes apart, and no label of the training data is above 2"
    assert [text for text in warnings if "classes apart" in text] == [said] * told


_NET = """
input "data" { shape: 3x8x8 }
conv { num_output: 4  kernel_size: 3 }  batch_norm  relu
fc { num_output: 3 }
dropout
softmax_loss
accuracy
"""


def solver_text(**fields: object) -> str:
    return "solver { " + "  ".join(f"{key}: {value}" for key, value in fields.items()) + " }"


def test_a_seed_from_the_clock_is_kept_with_the_run(tmp_path: Path) -> None:
    solver = solver_text(base_lr=0.01, max_iter=4, random_seed=-1)
    spec = read(str(written(tmp_path, _NET, solver=solver)))
    runs = [Run.open(train(spec, runs=tmp_path / "runs", device="cpu").run) for _ in range(2)]
    seeds = [run.settings.seed for run in runs]
    assert len(set(seeds)) == 2
    assert min(seeds) >= 0
    assert f"random_seed: {seeds[0]}" in runs[0].spec.read_text("utf-8")
    again = train(spec, runs=tmp_path / "runs", device="cpu", resume=True)
    assert (again.run, again.ran) == (runs[1].path, 0)
    same = read(str(runs[0].spec))
    repeated = train(same, runs=tmp_path / "again", data=tmp_path / "samples.npz", device="cpu")
    weights = [Run.open(path).weights() for path in (runs[0].path, repeated.run, runs[1].path)]
    assert all(np.array_equal(weights[0][n], weights[1][n]) for n in weights[0])
    assert not all(np.array_equal(weights[0][n], weights[2][n]) for n in weights[0])


def test_an_iteration_of_several_batches_goes_through_the_data_as_fast(tmp_path: Path) -> None:
    solver = solver_text(base_lr=0.01, max_epoch=4, iter_size=3, clip_gradients=1)
    experiment = prepare(read(str(written(tmp_path, _NET, solver=solver))))
    assert experiment.length == 4
    assert [len(experiment.batches.indices(i)) for i in range(4)] == [12] * 4
    assert sorted(experiment.batches.indices(3)) == list(range(12))
    plain = prepare(read(str(written(tmp_path, _NET, solver=solver.replace("iter_size: 3", "")))))
    parts = [plain.batches.indices(i) for i in range(3)]
    np.testing.assert_array_equal(np.concatenate(parts), experiment.batches.indices(0))


class StopAt(Heard):
    """Sends the process a signal after some iterations."""

    def __init__(self, iteration: int) -> None:
        super().__init__()
        self.iteration = iteration

    def progressed(self, iteration: int, loss: float, rate: float) -> None:
        if iteration == self.iteration:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_run_goes_on_in_the_folder_that_is_named(tmp_path: Path) -> None:
    """Though a later run of the same spec is there."""
    spec = read(str(written(tmp_path, _NET, solver=solver_text(base_lr=0.01, max_iter=6))))
    for at in (2, 4):
        with pytest.raises(Stopped):
            train(spec, runs=tmp_path / "runs", device="cpu", listener=StopAt(at))
    first, *_ = sorted((tmp_path / "runs").glob("*/*"))
    outcome = train(spec, runs=tmp_path / "elsewhere", device="cpu", resume=first)
    assert (outcome.run, outcome.ran) == (first, 4)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_signal_does_not_wait_for_all_batches_of_an_iteration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The iteration that it cuts short is done from its beginning when the run goes on."""
    solver = solver_text(base_lr=0.01, max_iter=5, iter_size=3, momentum=0.9)
    spec = read(str(written(tmp_path, _NET, solver=solver)))
    whole = train(spec, runs=tmp_path / "whole", device="cpu")
    ran: list[int] = []
    run_batch = BoundBatch.run

    def stopping(batch: BoundBatch, indices: Any, number: int) -> None:
        run_batch(batch, indices, number)
        ran.append(number)
        if number == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(BoundBatch, "run", stopping)
        with pytest.raises(Stopped, match="after iteration 2;"):
            train(spec, runs=tmp_path / "runs", device="cpu")
    assert max(ran) == 6
    again = train(spec, runs=tmp_path / "runs", device="cpu", resume=True)
    assert (again.iterations, again.ran) == (5, 3)
    for name in ("weights.safetensors", "model.onnx"):
        assert (again.run / name).read_bytes() == (whole.run / name).read_bytes(), name


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("type", ["SGD", "AdaGrad", "AdaDelta", "AdamW"])
def test_a_resumed_training_is_the_same_to_the_bit(tmp_path: Path, type: str) -> None:
    """With several batches in an iteration, clipping, dropout, and statistics."""
    solver = solver_text(
        type=type, base_lr=0.01, max_iter=6, iter_size=2, clip_gradients=0.1, weight_decay=0.01,
        average_loss=3, display=1, test_initialization="true", test_iter=2, test_interval=4,
        snapshot=3, snapshot_prefix='"net"',
    )  # fmt: skip
    spec = read(str(written(tmp_path, _NET, solver=solver)))
    made: list[tuple[str, int]] = []

    def snapshots(experiment: Experiment) -> Snapshot:
        return lambda state, iteration: made.append((experiment.solver.type, iteration))

    whole = train(spec, runs=tmp_path / "whole", device="cpu", snapshots=snapshots)
    for at in (1, 3, 5):
        runs = tmp_path / f"runs{at}"
        with pytest.raises(Stopped):
            train(spec, runs=runs, device="cpu", listener=StopAt(at), snapshots=snapshots)
        parts = train(spec, runs=runs, device="cpu", resume=True, snapshots=snapshots)
        for name in ("weights.safetensors", "model.onnx"):
            assert (parts.run / name).read_bytes() == (whole.run / name).read_bytes(), name
        one, other = (
            [line.rpartition(",")[0] for line in (run / "log.csv").read_text().splitlines()]
            for run in (parts.run, whole.run)
        )
        assert one == other
        assert [line.partition(",")[0] for line in one[1:]] == list("0123456")
    assert made == [(type, 3), (type, 6)] * 4


@pytest.mark.parametrize("format", ["BINARYPROTO", "HDF5"])
@pytest.mark.parametrize("type", ["SGD", "AdaGrad", "AdaDelta", "Adam"])
def test_a_training_goes_on_from_caffes_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, type: str, format: str
) -> None:
    """To the bit as if it had not stopped: weights, statistics, and the solver's history."""
    if format == "HDF5":
        pytest.importorskip("h5py")
    monkeypatch.chdir(tmp_path)
    solver = solver_text(
        type=type, base_lr=0.01, max_iter=5, iter_size=2, clip_gradients=0.5, snapshot=2,
        snapshot_prefix='"net"', snapshot_format=format, random_seed=7,
    )  # fmt: skip
    spec = read(str(written(tmp_path, _NET, solver=solver)))
    whole = train(spec, runs=tmp_path / "whole", device="cpu")
    end = ".h5" if format == "HDF5" else ""
    for iteration in (2, 4):
        state = f"net_iter_{iteration}.solverstate{end}"
        parts = train(spec, runs=tmp_path / "parts", device="cpu", solverstate=state)
        assert (parts.iterations, parts.ran) == (5, 5 - iteration)
        one, other = (Run.open(o.run).weights() for o in (parts, whole))
        assert all(np.array_equal(one[name], other[name]) for name in other)


def test_a_test_of_some_batches_is_the_mean_over_them(tmp_path: Path) -> None:
    """Over the 12 samples again where they do not suffice, and no batch smaller than the others."""
    results = {}
    for batches in (1, 2, 3, 4, 6, None):
        fields = {"test_iter": batches} if batches else {}
        solver = solver_text(base_lr=0.01, max_iter=2, **fields)
        path = written(tmp_path, _NET, batch=8, solver=solver)
        results[batches] = train(read(str(path)), runs=tmp_path / "runs", device="cpu").test
    loss = {batches: test["loss"] for batches, test in results.items()}
    assert loss[3] == pytest.approx(loss[None], rel=1e-5)  # twice each sample
    assert loss[6] == pytest.approx(loss[None], rel=1e-5)
    assert loss[4] == pytest.approx((3 * loss[3] + loss[1]) / 4, rel=1e-5)
    assert loss[1] != loss[2] != loss[3]


SEQUENCE = """
    input "data" { shape: 3x5 }
    input "cont" { shape: 3 }
    input "label" { shape: 3 }
    lstm { bottom: "data"  bottom: "cont"  num_output: 6  weight_filler { type: xavier } }
    fc { num_output: 2  axis: 2 }
    softmax_loss { axis: 2 }
"""


def test_a_recurrent_net_is_trained_and_written_at_its_length(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    data = generator.normal(size=(12, 3, 5)).astype(np.float32)
    label = (data[..., 0] > 0).astype(np.int64)
    cont = np.ones((12, 3), np.float32)
    solver = "solver { base_lr: 0.5  momentum: 0.9  max_iter: 60  display: 10 }"
    path = written(tmp_path, SEQUENCE, solver=solver, data=data, label=label, cont=cont)
    path.write_text(path.read_text().replace("transform { scale: 1/255 }", ""))
    made = train(read(str(path)), runs=tmp_path / "runs", device="cpu")
    assert made.test["loss"] < 0.2
    (model,) = tmp_path.glob("runs/*/*/model.onnx")
    (first, *_) = onnx.load(model).graph.input
    assert first.type.tensor_type.shape.dim[0].dim_value == 4


def test_a_test_set_that_leaves_samples_over_is_refused_where_a_layer_holds_the_batch(
    tmp_path: Path,
) -> None:
    arrays = {"data": np.zeros((12, 3, 5), np.float32), "cont": np.ones((12, 3), np.float32)}
    label = np.zeros((12, 3), np.int64)
    path = written(tmp_path, SEQUENCE, batch=5, label=label, **arrays)
    with pytest.raises(UsageError, match=r"holds the batch size 5, of which the 12 test samples"):
        train(read(str(path)), runs=tmp_path / "runs", device="cpu")
