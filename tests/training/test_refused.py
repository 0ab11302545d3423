"""Starts that are refused: they leave nothing that another one would stumble over."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from fakes import Killed, samples

from netspec.compiler import read
from netspec.diagnostics import DataError, UsageError
from netspec.training.launch import train
from netspec.training.listener import Listener
from netspec.training.outcome import Outcome, Stopped
from netspec.training.runs.run import Run

NET = """
data "train" { source: "samples.npz"  batch_size: 4 }
input "data" { shape: 3x4x4 }
fc "score" { num_output: 3  weight_filler { type: "xavier" } }
softmax_loss
solver { base_lr: 0.1  max_epoch: 2  display: 1 }
"""


class NoRoom(Listener):
    """Fails before the first step."""

    def started(self, iteration: int, length: int, run: Path) -> None:
        raise DataError(f"no room for {length}")


class StopAt(Listener):
    """Asks for the end after an iteration."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def progressed(self, iteration: int, loss: float, rate: float) -> None:
        if iteration == self.iteration:
            self.end()

    def end(self) -> None:
        os.kill(os.getpid(), 15)


class KilledAt(StopAt):
    """Ends the process there."""

    def end(self) -> None:
        raise Killed


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """On data without any for tests."""
    samples(tmp_path)
    path = tmp_path / "net.net"
    path.write_text(NET)
    return path


def go(spec: Path, *sets: str, **more: Any) -> Outcome:
    return train(read(str(spec), sets=sets), runs=spec.parent / "runs", device="cpu", **more)


def folders(spec: Path) -> list[str]:
    return sorted(path.name for path in (spec.parent / "runs").glob("*/*"))


def test_a_start_that_is_refused_leaves_no_run(spec: Path, tmp_path: Path) -> None:
    go(spec)
    none = tmp_path / "none.solverstate"
    none.write_bytes(b"this is none")
    with pytest.raises(UsageError, match=r"net\.net: early_stopping needs test data"):
        go(spec, "solver.early_stopping=3")
    for file in (none, tmp_path / "missing.solverstate"):
        with pytest.raises(DataError, match=file.name):
            go(spec, solverstate=file)
    assert folders(spec) == ["1"]
    assert go(spec, resume=True, epochs="+1").iterations == 9


def test_a_state_beyond_the_length_leaves_no_run(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    go(spec, 'solver.snapshot_prefix="net"', "solver.snapshot=3")
    state = Path("net_iter_6.solverstate")
    with pytest.raises(UsageError, match=r"solverstate: 6 iterations are done, beyond 3"):
        go(spec, solverstate=state, epochs=1)
    assert folders(spec) == ["1"]
    assert go(spec, solverstate=state, epochs=3).ran == 3
    with pytest.raises(UsageError, match="each say how the training begins"):
        go(spec, resume=True, solverstate=state)


def test_a_length_that_is_refused_is_not_kept(spec: Path) -> None:
    run = go(spec).run
    with pytest.raises(UsageError, match="6 iterations are done, beyond 3"):
        go(spec, resume=True, epochs=1)
    assert Run.open(run).settings.amended == ()
    assert go(spec, resume=True).ran == 0


def test_a_field_that_is_refused_is_not_kept(spec: Path) -> None:
    run = go(spec).run
    hashed = Run.open(run).spec_hash()
    with pytest.raises(UsageError, match="early_stopping needs test data"):
        go(spec, "solver.early_stopping=3", resume=True, force=True)
    assert Run.open(run).spec_hash() == hashed
    assert go(spec, resume=True).ran == 0


def lose_checkpoints(run: Path) -> None:
    for path in (run / "checkpoints").iterdir():
        path.unlink()


def content(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}


def test_a_run_whose_checkpoints_are_gone_does_not_start_over(spec: Path) -> None:
    run = go(spec).run
    lose_checkpoints(run)
    before = content(run)
    weights = run / "weights.safetensors"
    said = f"its checkpoints are gone, .* starts, and --weights {weights} begins with its weights"
    with pytest.raises(DataError, match=said):
        go(spec, resume=True)
    assert content(run) == before
    assert go(spec, weights=[weights]).iterations == 6


def test_a_begun_run_whose_checkpoints_are_gone_does_not_start_over(spec: Path) -> None:
    with pytest.raises(Stopped):
        go(spec, listener=StopAt(4))
    (run,) = (spec.parent / "runs").glob("*/*")
    lose_checkpoints(run)
    before = content(run)
    with pytest.raises(DataError, match=r"its checkpoints are gone, .* a new run starts$"):
        go(spec, resume=True)
    assert content(run) == before


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(spec: Path) -> None:
    whole = go(spec).run
    with pytest.raises(Killed):
        go(spec, listener=KilledAt(2))
    again = go(spec, resume=True)
    assert again.run != whole
    assert (again.iterations, again.ran) == (6, 6)
    weights = [run / "weights.safetensors" for run in (whole, again.run)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_start_that_fails_before_a_step_leaves_no_run(spec: Path) -> None:
    weights = go(spec).run / "weights.safetensors"
    for more in ({}, {"weights": [weights]}):
        with pytest.raises(DataError, match="no room for 6"):
            go(spec, listener=NoRoom(), **more)
        assert folders(spec) == ["1"]
    with pytest.raises(DataError, match="no room for 9"):
        go(spec, resume=True, epochs="+1", listener=NoRoom())
    assert go(spec, resume=True).iterations == 9  # what goes on is kept


def test_a_start_that_is_stopped_before_a_step_is_a_run(spec: Path) -> None:
    class StopAtOnce(StopAt):
        def started(self, iteration: int, length: int, run: Path) -> None:
            self.end()

    with pytest.raises(Stopped):
        go(spec, listener=StopAtOnce(0))
    assert go(spec, resume=True).ran == 6
    assert folders(spec) == ["1"]
