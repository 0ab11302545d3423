"""Crops, flips and mean images through training: what each sample is, in both phases."""

from __future__ import annotations

import os
import signal
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netspec.blob import mean_file
from netspec.codegen.target import CPU_PLAIN, Target
from netspec.compiler import elaborate, read
from netspec.diagnostics import DataError, UsageError
from netspec.ir.layer import Phase
from netspec.ir.net import Net
from netspec.runtime.device import Device
from netspec.training.execution.executor import Executor
from netspec.training.execution.randoms import uniform
from netspec.training.execution.targets import find_target
from netspec.training.launch import train
from netspec.training.listener import Listener
from netspec.training.outcome import Stopped
from netspec.training.runs.run import Run
from netspec.training.setup.experiment import prepare
from netspec.training.setup.opening import open_phase
from netspec.training.testing.candidate import Candidate

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (24, 2, 9, 11)).astype(np.uint8)
LABELS = RNG.integers(0, 3, 24)
MEAN = (RNG.random((2, 9, 11)) * 100).astype(np.float32)
TRANSFORM = 'crop_size: 5  mirror: true  scale: 1/64  mean_file: "mean.binaryproto"'
SUM = (
    "fc { num_output: 1  weight_filler { type: gaussian } }  "
    "reduction { operation: SUM  loss_weight: 1 }"
)
CLASSES = "conv { num_output: 8  kernel_size: 3 }  relu  fc { num_output: 3 }  softmax_loss"
TARGETS = list(dict.fromkeys([find_target("cpu").target, CPU_PLAIN]))


def written(
    folder: Path, layers: str, *, source: str = 'source: "set.npz"', mean: Any = MEAN, **arrays: Any
) -> Any:
    """A spec, its samples and its mean file in one folder."""
    folder.mkdir(exist_ok=True)
    np.savez(folder / "set.npz", **{"data": IMAGES, "label": LABELS, **arrays})
    content = b"".join(bytes(chunk) for chunk in mean_file(mean))
    (folder / "mean.binaryproto").write_bytes(content)
    sections = "".join(
        f'data "{phase}" {{ {source}  batch_size: 6  transform {{ {TRANSFORM} }} }}\n'
        for phase in ("train", "test")
    )
    solver = "solver { base_lr: 0.01  momentum: 0.9  max_iter: 6  random_seed: 3 }"
    path = folder / "net.net"
    path.write_text(f'{sections}input "data" {{ shape: 2x5x5 }}\n{layers}\n{solver}\n')
    return read(str(path))


def executor(spec: Any, target: Target | None = None) -> Executor:
    nets = elaborate(spec)
    sets = [open_phase(spec, nets[phase].net, phase)[0].fed for phase in (Phase.TRAIN, Phase.TEST)]

    def test_net(batch: int) -> Net:
        return elaborate(spec, batch=batch).test.net

    return Executor(
        nets.train.net, nets.test.net, *sets, device="cpu", seed=3, test_for_batch=test_net,
        target=target,
    )  # fmt: skip


def seen(indices: Any, corners: Any, flipped: Any) -> Any:
    """The images of a batch as Caffe makes them."""
    made = []
    for i, (top, left), flip in zip(indices, corners, flipped, strict=True):
        crop = (IMAGES[i] - MEAN)[:, top : top + 5, left : left + 5] / 64
        made.append(crop[:, :, ::-1] if flip else crop)
    return np.stack(made)


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_each_iteration_has_lots_of_its_own(tmp_path: Path, target: Target) -> None:
    on = executor(written(tmp_path, SUM), target)
    weight = on.state().weights["fc1.weight"].reshape(-1)
    indices = np.array([3, 23, 0, 3, 7, 7])
    losses = []
    for iteration in (0, 1, 0):
        corners = np.floor(uniform(3, iteration, "transform#crop", (6, 2)) * [5, 7]).astype(int)
        flipped = uniform(3, iteration, "transform#mirror", (6, 1))[:, 0] < 0.5
        expected = seen(indices, corners, flipped).reshape(6, -1) @ weight
        losses.append(on.step(iteration, indices, 0.0).loss)
        assert losses[-1] == pytest.approx(expected.sum(), rel=1e-4)
    assert losses[0] == losses[2] != losses[1]


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_tests_see_the_middle_and_flip_by_lot(tmp_path: Path, target: Target) -> None:
    on = executor(written(tmp_path, SUM), target)
    weight = on.state().weights["fc1.weight"].reshape(-1)
    expected = 0.0
    for batch in range(4):
        flipped = uniform(0, batch, "transform#mirror", (6, 1))[:, 0] < 0.5
        indices = np.arange(6 * batch, 6 * batch + 6)
        expected += (seen(indices, [(2, 3)] * 6, flipped).reshape(6, -1) @ weight).sum() / 4
    assert on.evaluate().loss == on.evaluate().loss == pytest.approx(expected, rel=1e-4)


def test_lots_are_even() -> None:
    """Every offset and both directions are as likely: 5 standard deviations of 7 and of 2."""
    drawn = np.concatenate([uniform(1, i, "transform#crop", (64, 2)) for i in range(500)])
    counts = np.stack([np.bincount(c, minlength=7) for c in np.floor(drawn * 7).astype(int).T])
    assert counts.shape == (2, 7)
    assert np.abs(counts - 32_000 / 7).max() < 5 * np.sqrt(32_000 * 6 / 49)
    flips = np.concatenate([uniform(1, i, "transform#mirror", (64, 1)) for i in range(500)]) < 0.5
    assert abs(flips.sum() - 16_000) < 5 * np.sqrt(8_000)
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]) < 5 / np.sqrt(32_000)


class StopsAt(Listener):
    """Sends the signal to stop after an iteration."""

    def progressed(self, iteration: int, loss: float, rate: float) -> None:
        if iteration == 3:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_resumed_run_is_the_same_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From another working directory, too: mean files are found from where the spec was."""
    spec = written(tmp_path / "spec", CLASSES)
    whole = train(spec, runs=tmp_path / "runs", device="cpu")
    with pytest.raises(Stopped):
        train(spec, runs=tmp_path / "runs", device="cpu", listener=StopsAt())
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    parts = train(spec, runs=tmp_path / "runs", device="cpu", resume=True)
    assert (parts.ran, parts.test) == (3, whole.test)
    weights = [(outcome.run / "weights.safetensors").read_bytes() for outcome in (whole, parts)]
    assert weights[0] == weights[1]
    assert Candidate.of_run(Run.open(whole.run)).evaluated(Device("cpu")).loss == whole.test["loss"]


def test_training_starts_at_a_lot(tmp_path: Path) -> None:
    spec = written(tmp_path, CLASSES, source='source: "set.npz"  shuffle: false  rand_skip: 20')
    batches = prepare(spec).batches
    (start, *_) = batches.indices(0)
    assert 0 < start < 20
    assert batches.indices(3).tolist() == [(start + 18 + i) % 24 for i in range(6)]


def test_other_data_take_the_place_of_a_database(tmp_path: Path) -> None:
    """IDX files by `--data` for a net whose section says LMDB; the crop holds for them."""
    images = RNG.integers(0, 256, (12, 7, 8)).astype(np.uint8)
    (tmp_path / "t-images.idx3-ubyte").write_bytes(
        struct.pack(">4B3I", 0, 0, 8, 3, *images.shape) + images.tobytes()
    )
    (tmp_path / "t-labels.idx1-ubyte").write_bytes(
        struct.pack(">4BI", 0, 0, 8, 1, 12) + bytes(i % 3 for i in range(12))
    )
    path = tmp_path / "net.net"
    sections = (
        f'data "{phase}" {{ source: "examples/mnist_{phase}_lmdb"  backend: LMDB  batch_size: 5  '
        'arrays: "image"  transform { crop_size: 6  scale: 1/256 } }\n'
        for phase in ("train", "test")
    )
    path.write_text(
        "\n".join(sections) + 'input "image" { shape: 1x6x6 }\nfc { num_output: 3 }  softmax_loss\n'
        "solver { base_lr: 0.1  max_iter: 3 }\n"
    )
    spec = read(str(path))
    data = tmp_path / "t-images.idx3-ubyte"
    assert train(spec, data=data, runs=tmp_path / "runs", device="cpu").ran == 3
    with pytest.raises(DataError, match="mnist_train_lmdb: no such file or folder"):
        prepare(spec)


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    small = IMAGES[:, :, :4]
    with pytest.raises(DataError, match="crop_size 5 is more than the images of `data` have, 2x4x"):
        prepare(written(tmp_path, CLASSES, data=small))
    with pytest.raises(DataError, match=r"mean.binaryproto: a mean of 2x9x10 for images of 2x9x11"):
        prepare(written(tmp_path, CLASSES, mean=MEAN[:, :, :10]))
    with pytest.raises(DataError, match="a row of `data` is 3x9x11, the input takes 2x5x5"):
        prepare(written(tmp_path, CLASSES, data=IMAGES[:, [0, 1, 1]]))
    two = 'input "beside" { shape: 2x5x5 }  eltwise { bottom: "data"  bottom: "beside" }  '
    with pytest.raises(DataError, match="one mean_file for images of 2x9x11 and 2x7x9"):
        prepare(written(tmp_path, two + CLASSES, beside=IMAGES[:, :, :7, :9]))
    spec = written(tmp_path, CLASSES, source="")
    with pytest.raises(
        UsageError, match='`data "train"` names no source: give the samples by --da'
    ):
        prepare(spec)
    assert prepare(spec, data=tmp_path / "set.npz").length == 6
    spec = written(tmp_path, CLASSES)
    (tmp_path / "mean.binaryproto").unlink()
    with pytest.raises(DataError, match=r"mean.binaryproto: cannot be read: No such file"):
        prepare(spec)
