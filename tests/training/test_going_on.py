"""Runs that go on for longer, with another spec, or with what options said when they began."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import samples

from netspec.compiler import Spec, read
from netspec.diagnostics import DataError, UsageError
from netspec.training.launch import train
from netspec.training.listener import Listener
from netspec.training.outcome import Outcome, Stopped
from netspec.training.runs.changed import fitted
from netspec.training.runs.checkpoint import State
from netspec.training.runs.run import Run

NET = """
data "train" { source: "samples.npz"  batch_size: 4 }
data "test" { source: "samples.npz"  batch_size: 4 }
input "data" { shape: 3x4x4 }
fc "hidden" { num_output: 6  weight_filler { type: "xavier" } }
batch_norm "norm"
relu
dropout
fc "score" { num_output: 3  weight_filler { type: "xavier" } }
softmax_loss
accuracy
solver { base_lr: 0.1  momentum: 0.9  max_epoch: 2  display: 1  lr_policy: poly  power: 1 }
"""


class Ear(Listener):
    """Notes what is said, and stops after an iteration."""

    def __init__(self, stop: int | None = None) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.stop = stop

    def noted(self, message: str) -> None:
        self.notes.append(message)

    def warned(self, message: str) -> None:
        self.warnings.append(message)

    def progressed(self, iteration: int, loss: float, rate: float) -> None:
        if iteration == self.stop:
            os.kill(os.getpid(), 15)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    samples(tmp_path)
    path = tmp_path / "net.net"
    path.write_text(NET)
    return path


def go(spec: Path, **more: Any) -> Outcome:
    return train(read(str(spec)), runs=spec.parent / "runs", device="cpu", **more)


def rows(run: Path) -> list[list[str]]:
    return [line.split(",") for line in (run / "log.csv").read_text().splitlines()[1:]]


def result(run: Path) -> tuple[Any, ...]:
    names = ("weights.safetensors", "best.safetensors", "model.onnx", "best.onnx")
    return *((run / name).read_bytes() for name in names), [row[:-1] for row in rows(run)]


def test_a_finished_run_is_extended(spec: Path) -> None:
    first, ear = go(spec), Ear()
    assert first.iterations == 6
    hashed = Run.open(first.run).spec_hash()
    longer = go(spec, resume=True, epochs="+2", listener=ear)
    assert (longer.run, longer.iterations, longer.ran) == (first.run, 12, 6)
    assert ear.notes == [
        "lr_policy poly hangs on the length: the learning rate goes on at 0.05, as of 12 "
        "iterations; of 6 it were 0"
    ]
    rates = [float(row[2]) for row in rows(first.run)]
    assert rates == pytest.approx([0.1 * (1 - i / 6) for i in range(6)]
                                  + [0.1 * (1 - i / 12) for i in range(6, 12)])  # fmt: skip
    run = Run.open(first.run)
    assert (run.spec_hash(), run.settings.amended) == (hashed, ("solver.max_epoch=4",))
    assert run.settings.solver["max_epoch"] == 4
    again = go(spec, resume=True)  # the length is the run's by now
    assert (again.iterations, again.ran) == (12, 0)
    more = go(spec, resume=True, epochs=5)
    assert (more.iterations, more.ran) == (15, 3)
    assert Run.open(first.run).settings.amended == ("solver.max_epoch=5",)


def test_an_extended_run_is_the_same_to_the_bit_wherever_it_stops(spec: Path) -> None:
    whole = go(spec)
    go(spec, resume=True, epochs="+2")
    for stop in (1, 4):
        parts = go(spec)
        with pytest.raises(Stopped):
            go(spec, resume=parts.run, epochs="+2", listener=Ear(6 + stop))
        go(spec, resume=parts.run)
        assert result(parts.run) == result(whole.run)


def test_a_training_that_diverges_goes_back_the_same_wherever_it_stops(spec: Path) -> None:
    """At a rate that no float32 survives, twice; with averaged weights and dropout."""
    text = NET.replace("0.1", "1e30").replace("max_epoch: 2", "max_epoch: 4  ema_decay: 0.9")
    spec.write_text(text.replace("power: 1", "power: 1  rollback: 3  rollback_factor: 1e-16"))
    ear = Ear()
    backs: list[tuple[int, int]] = []
    ear.rolled_back = lambda done, to, why: backs.append((done, to))  # type: ignore[method-assign]
    whole = go(spec, listener=ear)
    assert (whole.iterations, len(backs)) == (12, 2)
    for stop in (1, 5, 9):
        with pytest.raises(Stopped):
            go(spec, listener=Ear(stop))
        parts = go(spec, resume=True)
        assert result(parts.run) == result(whole.run)


def test_a_run_of_iterations_gains_epochs(spec: Path) -> None:
    spec.write_text(NET.replace("max_epoch: 2", "max_iter: 4"))
    go(spec)
    assert go(spec, resume=True, epochs="+3").iterations == 4 + 9
    assert go(spec, resume=True, epochs=6).iterations == 18


def test_what_options_set_stays_with_the_run(spec: Path) -> None:
    with pytest.raises(Stopped):
        go(spec, epochs=3, batch=6, max_time=900.0, listener=Ear(2))
    (folder,) = (spec.parent / "runs").glob("*/*")
    text = (folder / "spec.net").read_text()
    assert "batch_size: 6" in text
    assert "max_epoch: 3" in text
    assert "max_time: 900" in text
    again = go(spec, resume=True, batch=6)
    assert (again.iterations, again.ran) == (6, 4)
    with pytest.raises(UsageError, match="its batches are of 6 samples, and stay so"):
        go(spec, resume=True, batch=4)


def test_an_early_end_is_reopened(spec: Path) -> None:
    text = NET.replace("max_epoch: 2", "max_epoch: 9  early_stopping: 2").replace("0.1", "1e-9")
    spec.write_text(text)
    first = go(spec)
    assert first.iterations == 9
    assert first.ending.startswith("ended after iteration 9 of 27: early_stopping")
    assert go(spec, resume=True).ran == 0
    assert go(spec, resume=True, epochs="+1").iterations == 15
    ended = go(spec, max_time=1e-6)
    assert ended.iterations == 1
    assert go(spec, resume=True, max_time=600.0).iterations == 9


@pytest.mark.parametrize("epochs", ["", "0", "-1", "+0", "1.5", "++2", "many", "٣"])
def test_epochs_that_are_none(spec: Path, epochs: str) -> None:
    with pytest.raises(UsageError, match="--epochs takes a number from 1, or \\+10"):
        go(spec, epochs=epochs)


def test_more_epochs_need_a_run(spec: Path) -> None:
    with pytest.raises(UsageError, match=r"--epochs \+3 is for a run that goes on: add --resume"):
        go(spec, epochs="+3")
    go(spec)
    with pytest.raises(UsageError, match="6 iterations are done, beyond 3"):
        go(spec, resume=True, epochs=1)


def test_what_set_gave_is_to_be_given_again(spec: Path) -> None:
    sets = ["solver.max_epoch=3", 'data.train.classes=["a b", "c", "d"]']
    run = train(read(str(spec), sets=sets), runs=spec.parent / "runs", device="cpu").run
    with pytest.raises(UsageError) as caught:
        go(spec, resume=True)
    began = (
        """it began with --set solver.max_epoch=3 --set 'data.train.classes=["a b", "c", "d"]'"""
    )
    assert str(caught.value).splitlines()[0].endswith(began)
    again = read(str(spec), sets=sets)
    assert train(again, runs=run.parent.parent, device="cpu", resume=True).ran == 0


def test_a_changed_spec_is_refused_with_the_difference(spec: Path) -> None:
    run = go(spec).run
    spec.write_text(NET.replace("num_output: 6", "num_output: 8"))
    with pytest.raises(UsageError) as caught:
        go(spec, resume=True)
    first, *lines = str(caught.value).splitlines()
    assert first.startswith(f"{run}: the spec has changed since; ")
    assert first.endswith("--force goes on with it where weights fit")
    assert lines[:2] == ["--- spec.net of the run", "+++ spec.net"]
    assert [line for line in lines[2:] if line[0] == "-"] == [
        '-fc "hidden" { num_output: 6  weight_filler { type: "xavier" } }'
    ]


def test_a_long_difference_is_cut(spec: Path) -> None:
    go(spec)
    spec.write_text(NET + "\n".join(f'fc "f{i}" {{ num_output: 2 }}' for i in range(60)))
    with pytest.raises(UsageError, match=r"… and 2\d lines more$"):
        go(spec, resume=True)


def test_a_run_is_forced_to_go_on(spec: Path) -> None:
    first, ear = go(spec), Ear()
    before = Run.open(first.run)
    weights, hashed = before.weights(), before.spec_hash()
    text = NET.replace('"score" { num_output: 3', '"score" { num_output: 4')
    spec.write_text(text.replace("max_epoch: 2", "max_epoch: 4").replace("dropout", ""))
    outcome = go(spec, resume=True, force=True, listener=ear)
    assert (outcome.run, outcome.iterations, outcome.ran) == (first.run, 12, 6)
    assert sorted(text for text in ear.warnings if text[0] == "`")[:2] == [
        "`score.bias`, 4 for 3, is drawn anew", "`score.weight`, 4x6 for 3x6, is drawn anew",
    ]  # fmt: skip
    run = Run.open(first.run)
    (change,) = run.settings.changes
    assert change.spec == hashed
    assert "+fc" in change.difference
    assert "num_output: 4" in run.spec.read_text()
    assert run.weights()["score.weight"].shape == (4, 6)
    assert run.weights()["hidden.weight"].shape == weights["hidden.weight"].shape
    assert outcome.best_iteration is not None
    assert outcome.best_iteration > 6  # tests of the other spec do not count
    assert go(spec, resume=True).ran == 0  # it is the run's by now
    assert [row[0] for row in rows(run.path)] == [str(i) for i in range(1, 13)]


def test_a_forced_run_is_the_same_wherever_it_stops(spec: Path) -> None:
    runs = [go(spec).run for _ in range(3)]
    text = NET.replace("num_output: 6", "num_output: 7").replace("momentum: 0.9", "type: Adam")
    spec.write_text(text.replace("max_epoch: 2", "max_epoch: 4  rollback: 1"))
    go(spec, resume=runs[0], force=True)
    for run, stop in zip(runs[1:], (7, 10), strict=True):
        with pytest.raises(Stopped):
            go(spec, resume=run, force=True, listener=Ear(stop))
        go(spec, resume=run)
        assert result(run) == result(runs[0])


def test_included_files_are_forced_too(spec: Path) -> None:
    (spec.parent / "more.net").write_text("let n = 6\n")
    (spec.parent / "old.net").write_text("let m = 3\n")
    text = NET.replace("num_output: 6", "num_output: n")
    spec.write_text(text + 'include "more.net"\ninclude "old.net"\n')
    run = go(spec).run
    (spec.parent / "more.net").write_text("let n = 5\n")
    spec.write_text(text.replace("max_epoch: 2", "max_epoch: 3") + 'include "more.net"\n')
    assert go(spec, resume=True, force=True).iterations == 9
    assert (run / "more.net").read_text() == "let n = 5\n"
    assert not (run / "old.net").exists()


def test_a_checkpoint_of_no_known_text_is_refused(spec: Path) -> None:
    run = go(spec).run
    settings = json.loads((run / "settings.json").read_text())
    assert settings["changes"] == []
    (run / "spec.net").write_text(NET.replace("0.9", "0.8"))
    spec.write_text(NET.replace("0.9", "0.8"))
    with pytest.raises(DataError, match="belongs to another text"):
        go(spec, resume=True)


def test_what_fits() -> None:
    def tensors(**shapes: tuple[int, ...]) -> dict[str, Any]:
        return {name: np.full(shape, 7, np.float32) for name, shape in shapes.items()}

    saved = State(tensors(a=(2,), b=(3,), c=(1,)), {"momentum": tensors(a=(2,), b=(3,))}, {})
    drawn = State(
        {name: 0 * x for name, x in tensors(a=(2,), b=(4,), d=(1,)).items()},
        {"momentum": {n: 0 * x for n, x in tensors(a=(2,), b=(4,)).items()}, "v": tensors(a=(2,))},
        tensors(mean=(2,)),
    )
    fit = fitted(saved, drawn)
    assert fit.state.weights["a"].tolist() == [7, 7]
    assert fit.state.weights["b"].tolist() == [0] * 4
    assert fit.state.slots["momentum"]["a"].tolist() == [7, 7]
    assert fit.state.slots["momentum"]["b"].tolist() == [0] * 4
    assert fit.notes == (
        "`b`, 4 for 3, is drawn anew",
        "`d` is drawn anew",
        "`mean` begins anew",
        "the solver's v begins anew",
        "`c` is dropped",
    )


def test_weights_given_are_kept_from_the_start(spec: Path) -> None:
    """Else a run that is killed before its first checkpoint would begin without them."""
    before = go(spec).run
    start = Run.open(before).weights()
    spec.write_text(NET.replace("0.1", "1e-9"))
    with pytest.raises(Stopped):
        go(spec, weights=[before / "weights.safetensors"], listener=Ear(1))
    (_, run) = sorted((spec.parent / "runs").glob("*/*"))
    for path in sorted((run / "checkpoints").glob("*"))[1:]:
        path.unlink()  # as if it had been killed instead
    go(spec, resume=True)
    ended = Run.open(run).weights()
    assert np.allclose(ended["hidden.weight"], start["hidden.weight"], atol=1e-6)


def test_nothing_is_read_anew(spec: Path) -> None:
    """A spec read once trains more than once."""
    found: Spec = read(str(spec))
    for _ in range(2):
        assert train(found, runs=spec.parent / "runs", device="cpu", epochs=1).iterations == 3
