"""Plateau, running means and spared decay in a whole training, resumed too."""

from __future__ import annotations

import csv
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper
import pytest

from netspec.compiler import elaborate, read
from netspec.diagnostics import DataError, UsageError
from netspec.grammar.printer import to_text
from netspec.ir.printer import flatten
from netspec.runtime.device import Device
from netspec.training.execution.executor import Executor
from netspec.training.launch import train
from netspec.training.loop import Listener, Stopped
from netspec.training.runs.run import Run
from netspec.training.setup.experiment import prepare
from netspec.training.testing.candidate import Candidate

NET = """
input "data" { shape: 3x8x8 }
conv "conv" { num_output: 4  kernel_size: 3  weight_filler { type: msra } }
batch_norm "bn"
relu
fc "ip" { num_output: 3  weight_filler { type: xavier } }
dropout
softmax_loss
accuracy
"""
MEANS = "ema_decay: 0.8  momentum: 0.9  weight_decay: 0.01"


def spec(folder: Path, solver: str, *, tested: bool = True, layers: str = NET) -> Path:
    """A spec on a small `.npz` beside it; its labels are noise, so that no score lasts."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (12, 3, 8, 8), np.uint8), rng.integers(0, 3, 12)
    np.savez(folder / "samples.npz", data=images, label=labels)
    said = 'source: "samples.npz"  batch_size: 4  transform { scale: 1/255 }'
    phases = ("train", "test") if tested else ("train",)
    sections = "".join(f'data "{phase}" {{ {said} }}\n' for phase in phases)
    path = folder / "net.net"
    path.write_text(f"{sections}{layers}\nsolver {{ {solver} }}\n")
    return path


class StopAt(Listener):
    """Sends the process a signal after some iterations."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def progressed(self, iteration: int, loss: float, rate: float) -> None:
        if iteration == self.iteration:
            os.kill(os.getpid(), signal.SIGTERM)


def rows(run: Path) -> list[dict[str, str]]:
    """The log, without its seconds."""
    with (run / "log.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


PLATEAU = "lr_policy: plateau  gamma: 0.5  patience: 1  threshold: 0.01  base_lr: 0.02"


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_plateau_and_means_resume_to_the_bit(tmp_path: Path) -> None:
    """With several batches in an iteration, clipping, dropout and statistics."""
    solver = f"{PLATEAU}  cooldown: 1  {MEANS}  iter_size: 2  clip_gradients: 0.1"
    path = spec(tmp_path, f"{solver}  max_iter: 18  display: 1  test_interval: 1  ema_warmup: true")
    whole = train(read(str(path)), runs=tmp_path / "whole", device="cpu")
    rates = [float(row["lr"]) for row in rows(whole.run)]
    cuts = [i for i in range(1, 18) if rates[i] < rates[i - 1]]
    assert cuts
    assert min(rates) == 0.02 * 0.5 ** len(cuts)
    for at in (1, cuts[0], cuts[0] + 2, 17):
        runs = tmp_path / f"runs{at}"
        with pytest.raises(Stopped):
            train(read(str(path)), runs=runs, device="cpu", listener=StopAt(at))
        parts = train(read(str(path)), runs=runs, device="cpu", resume=True)
        for name in ("weights.safetensors", "model.onnx"):
            assert (parts.run / name).read_bytes() == (whole.run / name).read_bytes(), (name, at)
        assert rows(parts.run) == rows(whole.run)


def test_a_cut_follows_the_test_that_caused_it(tmp_path: Path) -> None:
    """The row of an iteration has the rate that it was made with."""
    solver = f"{PLATEAU}  max_iter: 8  display: 1  test_interval: 2"
    path = spec(tmp_path, solver.replace("0.02", "1e-9"))  # so that no score ever changes
    made = train(read(str(path)), runs=tmp_path, device="cpu")
    found = [float(row["lr"]) for row in rows(made.run)]
    assert found == [1e-9] * 6 + [5e-10] * 2


def test_a_longer_run_and_a_changed_one_keep_their_cuts(tmp_path: Path) -> None:
    """One that is forced on with another spec forgets the scores alone."""
    path = spec(tmp_path, f"{PLATEAU}  max_epoch: 3  display: 1".replace("0.02", "1e-9"))
    train(read(str(path)), runs=tmp_path, device="cpu")
    longer = train(read(str(path)), runs=tmp_path, device="cpu", resume=True, epochs="+1")
    assert [float(row["lr"]) for row in rows(longer.run)] == [1e-9] * 9 + [5e-10] * 3
    path.write_text(path.read_text().replace("dropout", "dropout { dropout_ratio: 0.1 }"))
    changed = train(read(str(path)), runs=tmp_path, device="cpu", resume=True, epochs=5, force=True)
    assert changed.run == longer.run
    assert {float(row["lr"]) for row in rows(changed.run)[12:]} == {5e-10}


def test_plateau_needs_data_to_test_on(tmp_path: Path) -> None:
    path = spec(tmp_path, f"{PLATEAU}  max_iter: 8", tested=False)
    with pytest.raises(UsageError, match='plateau looks at tests: it needs a `data "test"`'):
        prepare(read(str(path)))


def executor(path: Path) -> Executor:
    experiment = prepare(read(str(path)))
    nets, data = experiment.nets, experiment.train.fed
    return Executor(
        nets.train.net, nets.test.net, data, data,
        device="cpu", seed=1, test_for_batch=experiment.test_for_batch,
    )  # fmt: skip


def test_means_follow_weights_and_statistics(tmp_path: Path) -> None:
    """Against float64: w̄' = 0.8·w̄ + 0.2·w', from the initial ones on; frozen weights have none."""
    frozen = NET.replace("num_output: 3", "num_output: 3  param {} param { lr_mult: 0 }")
    on = executor(spec(tmp_path, f"base_lr: 0.05  max_iter: 9  {MEANS}", layers=frozen))
    start = on.state()
    held = {n: a.astype(float) for n, a in {**start.weights, **start.statistics}.items()}
    held.pop("ip.bias")
    assert start.averages.keys() == held.keys()
    assert all(np.array_equal(start.averages[n], a) for n, a in held.items())
    for iteration in range(6):
        on.step(iteration, np.arange(4), 0.05)
        now = on.state()
        for name, mean in held.items():
            new = (now.weights | now.statistics)[name]
            held[name] = 0.8 * mean + 0.2 * new
            np.testing.assert_allclose(now.averages[name], held[name], rtol=1e-5, atol=1e-6)
    assert not np.array_equal(now.averages["bn.running_var"], now.statistics["bn.running_var"])


def test_tests_read_the_means(tmp_path: Path) -> None:
    """A test of the means is one of weights that are the means, and steps leave it no choice."""
    path = spec(tmp_path, f"base_lr: 0.05  max_iter: 9  {MEANS}")
    on, other = executor(path), executor(path)
    for iteration in range(6):
        on.step(iteration, np.arange(4), 0.05)
    state = on.state()
    with_slots = state.result.weights, state.slots, state.result.statistics
    other.restore(type(state)(*with_slots))
    assert on.evaluate().loss == other.evaluate().loss
    other.restore(type(state)(state.weights, state.slots, state.statistics))
    assert on.evaluate().loss != other.evaluate().loss


def test_a_state_without_means_begins_them_at_its_weights(tmp_path: Path) -> None:
    on = executor(spec(tmp_path, f"base_lr: 0.05  max_iter: 9  {MEANS}"))
    on.step(0, np.arange(4), 0.05)
    state = on.state()
    on.restore(type(state)(state.weights, state.slots, state.statistics))
    begun = on.state()
    for name, mean in begun.averages.items():
        assert np.array_equal(mean, (begun.weights | begun.statistics)[name])
    del state.averages["bn.weight"]
    with pytest.raises(DataError, match=r"there is no tensor bn\.weight"):
        on.restore(state)
    plain = executor(spec(tmp_path, "base_lr: 0.05  momentum: 0.9  max_iter: 9"))
    with pytest.raises(DataError, match="the state holds running means, and this solver has no"):
        plain.restore(state)


def test_what_is_written_is_the_mean(tmp_path: Path) -> None:
    """The weights, the model and the test of a run; a checkpoint has the weights, too."""
    path = spec(tmp_path, f"base_lr: 0.05  max_iter: 7  {MEANS}")
    made = train(read(str(path)), runs=tmp_path / "runs", device="cpu")
    run = Run.open(made.run)
    found = run.checkpoints.newest()
    assert found is not None
    written, result = run.weights(), found.state.result
    means: dict[str, npt.NDArray[Any]] = {**result.weights, **result.statistics}
    assert written.keys() == means.keys()
    assert all(np.array_equal(written[name], means[name]) for name in means)
    assert not np.array_equal(written["ip.weight"], found.state.weights["ip.weight"])
    model = onnx.load(run.model_file)
    held = [onnx.numpy_helper.to_array(t).ravel() for t in model.graph.initializer]
    bias = written["ip.bias"]
    assert any(np.array_equal(array, bias) for array in held)
    tested = Candidate.of_run(run).evaluated(Device("cpu"))
    assert tested.loss == pytest.approx(made.test["loss"], rel=1e-6)
    run.weights_file.unlink()
    assert Candidate.of_run(run).evaluated(Device("cpu")).loss == tested.loss


def test_given_weights_are_where_the_means_begin(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    path = spec(tmp_path, f"base_lr: 0.05  max_iter: 3  {MEANS}")
    first = Run.open(train(read(str(path)), runs=runs, device="cpu").run)
    path = spec(tmp_path, f"base_lr: 0.05  max_iter: 0  {MEANS}  random_seed: 2")
    file = first.weights_file
    second = Run.open(train(read(str(path)), runs=runs, device="cpu", weights=[file]).run)
    given, begun = first.weights(), second.weights()
    assert all(np.array_equal(begun[name], given[name]) for name in given)


def test_vectors_are_spared_the_decay_by_one_field(tmp_path: Path) -> None:
    """Whatever their own decay_mult; in the net, and so in the update and in the flat text."""
    solver = "base_lr: 0.1  weight_decay: 0.5  max_iter: 1  momentum: 0.9"
    layers = NET.replace(
        "num_output: 3", "num_output: 3  param { decay_mult: 2 } param { decay_mult: 3 }"
    )
    path = spec(tmp_path, solver, layers=layers)
    usual = {p.name: p.decay_mult for p in elaborate(read(str(path))).train.net.parameters}
    assert usual == {
        "conv.weight": 1, "conv.bias": 1, "bn.weight": 1, "bn.bias": 1, "ip.weight": 2, "ip.bias": 3
    }  # fmt: skip
    path = spec(tmp_path, f"{solver}  decay_norm_and_bias: false", layers=layers)
    nets = elaborate(read(str(path)))
    spared = {p.name: p.decay_mult for p in nets.train.net.parameters}
    assert spared == {
        "conv.weight": 1, "conv.bias": 0, "bn.weight": 0, "bn.bias": 0, "ip.weight": 2, "ip.bias": 0
    }  # fmt: skip
    assert to_text(flatten(nets.test.net, nets.train.net)).count("decay_mult: 0") == 4
    moved = {}
    for decay in ("0.5", "0"):
        path.write_text(path.read_text().replace("weight_decay: 0.5", f"weight_decay: {decay}"))
        on = executor(path)
        on.step(0, np.arange(4), 0.1)
        moved[decay] = on.state().weights
    same = {n for n, w in moved["0"].items() if np.array_equal(w, moved["0.5"][n])}
    assert same == {name for name, multiplier in spared.items() if not multiplier}


@pytest.mark.parametrize(("iter_size", "starts"), [(1, [0, 3, 6]), (2, [0, 2, 3])])
def test_steps_in_epochs_are_where_the_log_has_them(
    tmp_path: Path, iter_size: int, starts: list[int]
) -> None:
    """12 samples in batches of 4: an epoch takes 3 iterations, or 1.5."""
    solver = "base_lr: 0.5  lr_policy: step  gamma: 0.5  stepsize: 1  lr_unit: EPOCH  display: 1"
    path = spec(tmp_path, f"{solver}  max_epoch: 3  iter_size: {iter_size}")
    made = train(read(str(path)), runs=tmp_path / "runs", device="cpu")
    found = [float(row["lr"]) for row in rows(made.run)]
    assert len(found) == 9 // iter_size + (iter_size - 1)
    wanted = [0.5 * 0.5 ** (sum(start <= i for start in starts) - 1) for i in range(len(found))]
    assert found == wanted
