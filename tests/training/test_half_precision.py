"""A training in half precision: what is left out, how it is resumed, and what it reaches."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import SOLVER, Fake, go, make

from netspec.codegen.target import CPU_PLAIN
from netspec.compiler import elaborate, read
from netspec.training.execution import scaling
from netspec.training.execution.executor import Executor
from netspec.training.execution.machine import find_machine
from netspec.training.launch import train
from netspec.training.listener import Listener
from netspec.training.outcome import Diverged, Outcome, Stopped
from netspec.training.runs.checkpoint import Progress, load, save
from netspec.training.runs.run import Run
from netspec.training.setup.experiment import prepare

NET = """
data "train" { source: "samples.npz"  batch_size: 4 }
data "test" { source: "samples.npz"  batch_size: 4 }
input "data" { shape: 3x6x6 }
conv "conv" { num_output: 4  kernel_size: 3  weight_filler { type: msra } }
batch_norm "bn"
relu
fc "ip" { num_output: 3  weight_filler { type: xavier } }
dropout
softmax_loss
accuracy
solver {
  base_lr: 0.05  momentum: 0.9  max_iter: 24  display: 1  test_interval: 8  precision: FP16
  loss_scale: 1073741824  growth_interval: 4  MORE
}
"""
"""Its scale is too large at first, so that the first updates are left out."""


class Ear(Listener):
    """Notes what is said, and stops after an iteration."""

    def __init__(self, stop: int | None = None) -> None:
        self.stop = stop
        self.notes: list[str] = []
        self.skips: list[int] = []

    def noted(self, message: str) -> None:
        self.notes.append(message)

    def skipped(self, iteration: int) -> None:
        self.skips.append(iteration)

    def progressed(self, iteration: int, loss: float, rate: float) -> None:
        if iteration == self.stop:
            os.kill(os.getpid(), signal.SIGTERM)


def spec(folder: Path, more: str = "") -> Path:
    rng = np.random.default_rng(0)
    images = rng.standard_normal((16, 3, 6, 6)).astype(np.float32)
    np.savez(folder / "samples.npz", data=images, label=rng.integers(0, 3, 16))
    path = folder / "net.net"
    path.write_text(NET.replace("MORE", more))
    return path


def run(path: Path, runs: str = "runs", **more: Any) -> Outcome:
    return train(read(str(path)), runs=path.parent / runs, device="cpu", **more)


def results(folder: Path) -> tuple[bytes, ...]:
    names = ("weights.safetensors", "model.onnx")
    newest = Run.open(folder).checkpoints.newest()
    assert newest is not None
    scaling = [newest.state.scaling[name].tobytes() for name in ("scale", "good")]
    return *((folder / name).read_bytes() for name in names), *scaling


@pytest.mark.parametrize("more", ["", "iter_size: 2  clip_gradients: 0.5  ema_decay: 0.9"])
@pytest.mark.parametrize("stop", [2, 7, 15])
def test_a_resumed_run_ends_with_the_same_bytes(stop: int, more: str, tmp_path: Path) -> None:
    """While the scale is still sought, too, and on its way up again."""
    path, ear = spec(tmp_path, more), Ear()
    whole = run(path, "whole", listener=ear)
    assert ear.notes == [
        "precision FP16 is for CUDA: on cpu it is computed step by step, slower than FP32"
    ]
    assert ear.skips[:3] == [1, 2, 3]
    assert whole.skipped == len(ear.skips) < 20
    with pytest.raises(Stopped):
        run(path, listener=Ear(stop))
    resumed = run(path, resume=True)
    assert resumed.skipped == whole.skipped
    assert results(resumed.run) == results(whole.run)
    assert Run.open(whole.run).settings.target == "cpu-plain"


def test_the_option_stands_for_the_field(tmp_path: Path) -> None:
    path = spec(tmp_path)
    text = path.read_text()
    plain = text.replace("precision: FP16", "").replace("loss_scale: 1073741824", "")
    path.write_text(plain.replace("growth_interval: 4", ""))
    half, whole = run(path, precision="FP16"), run(path)
    newest = [Run.open(o.run).checkpoints.newest() for o in (half, whole)]
    assert [bool(found and found.state.scaling) for found in newest] == [True, False]
    with pytest.raises(Stopped):
        run(path, precision="FP16", listener=Ear(9))
    assert results(run(path, resume=True).run) == results(half.run)


def executor(path: Path) -> Executor:
    return Executor.of(prepare(read(str(path))), find_machine("cpu"))


def step(on: Executor, i: int) -> Any:
    return on.step(i, np.arange(4 * i, 4 * i + 4) % 16, 0.01)


def test_an_overflow_leaves_all_but_the_scale_alone(tmp_path: Path) -> None:
    """An activation that float16 does not hold, though float32 does."""
    path = spec(tmp_path)
    on = executor(path)
    assert on.target is CPU_PLAIN
    while not step(on, 0).finite:
        pass
    before = on.state()
    wild = {**before.weights, "ip.bias": np.full(3, 1e5, np.float32)}
    on.restore(type(before)(wild, before.slots, before.statistics, {}, before.scaling))
    result = step(on, 1)
    assert (result.finite, result.sought) == (False, True)
    after = on.state()
    assert after.scaling["scale"] == before.scaling["scale"] / 2
    assert after.scaling["good"] == 0
    assert all(np.array_equal(after.weights[n], w) for n, w in wild.items())
    for name, slot in before.slots.items():
        assert all(np.array_equal(after.slots[name][n], a) for n, a in slot.items())
    on.restore(before)
    assert step(on, 1).finite


def test_at_its_floor_the_scale_is_no_excuse(tmp_path: Path) -> None:
    on = executor(spec(tmp_path))
    state = on.state()
    wild = {**state.weights, "ip.bias": np.full(3, np.nan, np.float32)}
    low = {"scale": np.array(4, np.float32), "good": np.array(0, np.float32)}
    on.restore(type(state)(wild, state.slots, state.statistics, {}, low))
    assert [step(on, i).sought for i in range(3)] == [True, False, False]
    assert on.state().scaling["scale"] == 1


def test_a_scale_that_is_sought_is_no_divergence(tmp_path: Path) -> None:
    seven = frozenset(range(2, 9))
    outcome = go(make(tmp_path), Fake(bad=seven, sought=seven))
    assert outcome.skipped == 7
    with pytest.raises(Diverged):
        go(make(tmp_path), Fake(bad=seven, sought=seven - {6, 7, 8}), solver=SOLVER)


def test_data_that_float16_does_not_hold_are_a_divergence(tmp_path: Path) -> None:
    path = spec(tmp_path)
    data = dict(np.load(tmp_path / "samples.npz"))
    data["data"] *= 1e6  # what float16 does not hold
    np.savez(tmp_path / "samples.npz", **data)
    path.write_text(path.read_text().replace("max_iter: 24", "max_iter: 99"))
    with pytest.raises(Diverged, match=r"layer `conv` .* went first: .* are not finite"):
        run(path)


def test_checkpoints_without_a_scale_begin_it_anew(tmp_path: Path) -> None:
    on = executor(spec(tmp_path))
    while not step(on, 0).finite:
        pass
    state = on.state()
    save(tmp_path / "new", state, Progress())
    read_back, _ = load(tmp_path / "new")
    assert read_back.scaling == state.scaling
    older = type(state)(state.weights, state.slots, state.statistics)
    save(tmp_path / "old", older, Progress())
    found, _ = load(tmp_path / "old")
    assert found.scaling == {}
    on.restore(found)
    assert on.state().scaling["scale"] == 2**30


def test_memory_is_counted_in_half(tmp_path: Path) -> None:
    from netspec.ir.layer import Phase
    from netspec.report.summary import summarise

    def activations(*sets: str, target: str = "cuda", exact: bool | None = None) -> int:
        nets = elaborate(read("cifar10_quick", sets=sets), batch=64)
        found = summarise(nets, Phase.TRAIN, target=target, exact=exact).training
        assert found is not None
        return found.activations

    half = "solver.precision=FP16"
    assert activations(half) < 0.6 * activations()
    assert activations(half, target="cpu") == activations(half, target="cpu-plain")
    assert activations(half, exact=False) < 0.6 * activations(exact=False)


@pytest.mark.slow
def test_lenet_reaches_what_it_reaches_in_float32(tmp_path: Path) -> None:
    reached = []
    for precision in ("FP32", "FP16"):
        sets = [f"solver.precision={precision}", "solver.max_epoch=2"]
        outcome = train(read("lenet", sets=sets), runs=tmp_path, device="cpu", target="cpu-plain")
        assert outcome.skipped == 0
        reached.append(outcome.test["accuracy1"])
    assert min(reached) > 0.96
    assert reached[1] == pytest.approx(reached[0], abs=0.005)


def test_what_is_divided_is_what_a_recorded_graph_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With several batches in an iteration that is their sum, and not the last one's gradients."""
    path = spec(tmp_path)
    path.write_text(path.read_text().replace("precision: FP16", "precision: FP16  iter_size: 2"))
    told: list[Any] = []
    loaded = scaling.loaded

    def seen(*arguments: Any, **options: Any) -> Any:
        told.append(arguments[3])
        return loaded(*arguments, **options)

    monkeypatch.setattr(scaling, "loaded", seen)
    held = executor(path).held
    assert [memory.pointer for memory in told[0]] == [held.totals[0].memory.pointer]
    assert held.totals[0] not in held.gradients
