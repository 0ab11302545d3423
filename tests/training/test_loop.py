"""The loop ends with the same bytes whatever kills it; as a script, it is the run to be killed."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fakes import LENGTH, SOLVER, Ear, Fake, Killed, asking, go, make, result

from netspec.diagnostics import DataError, UsageError
from netspec.training import loop
from netspec.training.metrics import Averages
from netspec.training.outcome import Diverged, Outcome, Stopped
from netspec.training.runs.checkpoint import Progress, State
from netspec.training.runs.run import Run
from netspec.training.runs.snapshot import snapshot_files


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes, list[list[str]]]:
    run = make(tmp_path_factory.mktemp("whole"))
    go(run, Fake(bad=frozenset({3})))
    return result(run)


def test_what_is_due_when(tmp_path: Path) -> None:
    run, ear = make(tmp_path), Ear()
    outcome = go(run, Fake(bad=frozenset({3})), ear=ear)
    epochs = [3, 5, 8, 10, 12]  # 10 samples in batches of 4, and the end
    assert ear.of("tested") == ear.of("saved") == epochs
    header, *rows = result(run)[2]
    assert ",".join(header) == "iteration,epoch,lr,loss,a,b,accuracy,test_loss,test_accuracy"
    assert [int(row[0]) for row in rows] == [2, 3, 4, 5, 6, 8, 10, 12]
    assert [int(row[0]) for row in rows if row[-1]] == epochs
    assert rows[2][3] == ""  # the one step since the last row was not finite
    assert float(rows[0][1]) == 0.8
    assert outcome.skipped == 1
    assert outcome.ran == outcome.iterations == LENGTH
    assert outcome.test["accuracy"] == pytest.approx(float(rows[-1][-1]))
    best = max(rows, key=lambda row: float(row[-1] or 0))
    assert outcome.best_iteration == int(best[0])
    kept = {int(p.stem) for p in run.checkpoints.paths()}
    assert kept == {8, 10, 12} | {outcome.best_iteration}
    assert ear.of("finished") == [outcome]


def test_by_test_interval_and_without_tests(tmp_path: Path) -> None:
    solver, ear = SOLVER.model_copy(update={"test_interval": 5}), Ear()
    go(make(tmp_path), Fake(), solver=solver, ear=ear)
    assert ear.of("tested") == [5, 10, 12]
    ear = Ear()
    outcome = go(make(tmp_path), Fake(), ear=ear, tests=False)
    assert not ear.of("tested")
    assert ear.of("saved") == [3, 5, 8, 10, 12]
    assert outcome.test == {}
    assert outcome.best is None


def rows_of(run: Run) -> list[list[str]]:
    return result(run)[2][1:]


def test_a_test_before_the_first_iteration_has_row_0(tmp_path: Path) -> None:
    run, ear, fake = make(tmp_path), Ear(), Fake()
    solver = asking(test_initialization=True, test_interval=5, test_iter=3)
    go(run, fake, solver=solver, ear=ear)
    assert ear.of("tested") == ear.of("saved") == [0, 5, 10, 12]
    assert fake.asked == [3, 3, 3, 3]
    first = rows_of(run)[0]
    assert first[:4] == ["0", "0", "0.1", ""]
    assert float(first[-1])


def test_no_test_and_no_display_leave_the_last_row(tmp_path: Path) -> None:
    run, ear = make(tmp_path), Ear()
    solver = asking(test_interval=0, display=0, test_initialization=True)
    outcome = go(run, Fake(), solver=solver, ear=ear)
    assert ear.of("tested") == []
    assert ear.of("saved") == [LENGTH]
    assert outcome.test == {}
    assert [row[0] for row in rows_of(run)] == [str(LENGTH)]


@pytest.mark.parametrize("interval", [5, 0])
def test_a_training_of_no_iterations_is_written_as_it_began(tmp_path: Path, interval: int) -> None:
    run, ear = make(tmp_path), Ear()
    solver = asking(max_iter=0, test_interval=interval)
    outcome = go(run, Fake(), solver=solver, ear=ear, length=0)
    assert ear.of("tested") == [0] * (interval > 0)
    assert outcome.iterations == outcome.ran == 0
    assert run.weights()["w"].tolist() == [1] * 5
    assert run.model_file.exists()


def test_the_loss_is_the_mean_of_the_last(tmp_path: Path) -> None:
    run, ear, told = make(tmp_path), Ear(), list[float]()
    ear.progressed = lambda iteration, loss, rate: told.append(loss)  # type: ignore[method-assign]
    plain = make(tmp_path)
    losses: list[float] = []
    other = Ear()
    other.progressed = lambda i, loss, rate: losses.append(loss)  # type: ignore[method-assign]
    go(plain, Fake(bad=frozenset({3})), ear=other)
    go(run, Fake(bad=frozenset({3})), solver=asking(average_loss=3), ear=ear)
    good = [loss for loss in losses if loss == loss]
    for i in range(len(good)):
        last = good[max(0, i - 2) : i + 1]
        assert [t for j, t in enumerate(told) if j != 3][i] == pytest.approx(sum(last) / len(last))
    rows = {int(row[0]): row[3] for row in rows_of(run)}
    assert all(float(rows[i]) == pytest.approx(told[i - 1], rel=1e-6) for i in rows)
    assert result(run)[:2] == result(plain)[:2]


CAREFUL = asking(
    test_initialization=True, average_loss=4, snapshot=4, display=3, snapshot_prefix="net"
)
"""What beside tests asks for rows and files."""


def test_snapshots_come_before_their_checkpoints(tmp_path: Path) -> None:
    run, ear = make(tmp_path), Ear()
    seen: list[tuple[int, list[str]]] = []

    def snapshot(state: State, iteration: int) -> None:
        seen.append((iteration, [p.stem for p in run.checkpoints.paths()]))
        assert state.weights.keys() == {"w"}

    go(run, Fake(), solver=CAREFUL, ear=ear, snapshot=snapshot, tests=False)
    assert [iteration for iteration, _ in seen] == [4, 8, 12]
    assert {4, 8, 12} <= set(ear.of("saved"))
    assert all(f"{iteration:08d}" not in there for iteration, there in seen)
    seen.clear()
    again = make(tmp_path)
    solver = CAREFUL.model_copy(update={"snapshot_after_train": False, "snapshot": 5})
    go(again, Fake(), solver=solver, snapshot=snapshot)
    assert [iteration for iteration, _ in seen] == [5, 10]


@pytest.mark.parametrize("moment", range(LENGTH))
def test_whatever_is_asked_for_a_killed_run_ends_with_the_same_bytes(
    tmp_path: Path, moment: int
) -> None:
    written: dict[str, dict[int, bytes]] = {"whole": {}, "killed": {}}

    def snapshot(name: str) -> Callable[[State, int], None]:
        return lambda state, i: written[name].update({i: state.weights["w"].tobytes()})

    def die(iteration: int) -> None:
        if iteration == moment:
            raise Killed

    whole, run = make(tmp_path), make(tmp_path)
    go(whole, Fake(bad=frozenset({3})), solver=CAREFUL, snapshot=snapshot("whole"))
    killed = Fake(bad=frozenset({3}), before_step=die)
    with pytest.raises(Killed):
        go(run, killed, solver=CAREFUL, snapshot=snapshot("killed"))
    go(run, Fake(bad=frozenset({3})), solver=CAREFUL, snapshot=snapshot("killed"))
    assert result(run) == result(whole)
    assert written["killed"] == written["whole"]


def test_the_files_of_a_snapshot_are_called_as_caffe_does(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for prefix, named in (("net", "net"), ("a/net.v2", "a/net.v2"), ("b/", "b/lenet"),
                          (str(tmp_path / "folder"), str(tmp_path / "folder/lenet"))):  # fmt: skip
        solver = asking(snapshot_prefix=prefix)
        model, state = snapshot_files(solver, 500, "lenet")
        assert str(model) == f"{named}_iter_500.caffemodel"
        assert str(state) == f"{named}_iter_500.solverstate"
        solver = asking(snapshot_prefix=prefix, snapshot_format="HDF5")
        assert [p.suffixes[-2:] for p in snapshot_files(solver, 500, "lenet")] == [
            [".caffemodel", ".h5"],
            [".solverstate", ".h5"],
        ]


def test_a_late_checkpoint_comes_before_the_test(tmp_path: Path) -> None:
    ear = Ear()
    go(make(tmp_path), Fake(), ear=ear, save_seconds=0.0)
    assert ear.of("saved") == list(range(1, LENGTH + 1))


@pytest.mark.parametrize(
    ("moment", "save_seconds"),
    [*((moment, 600.0) for moment in range(LENGTH)), (1, 0.0), (4, 0.0), (6, 0.0)],
)
def test_a_run_killed_anywhere_ends_with_the_same_bytes(
    tmp_path: Path, whole: Any, moment: int, save_seconds: float
) -> None:
    run = make(tmp_path)

    def die(iteration: int) -> None:
        if iteration == moment:
            raise Killed

    with pytest.raises(Killed):
        go(run, Fake(bad=frozenset({3}), before_step=die), save_seconds=save_seconds)
    go(run, Fake(bad=frozenset({3})))
    assert result(run) == whole


def test_a_run_killed_in_every_test_ends_with_the_same_bytes(tmp_path: Path, whole: Any) -> None:
    run = make(tmp_path)
    for survived in range(5):
        left = iter([None] * min(survived, 1))

        def die(left: Iterator[None] = left) -> None:
            if next(left, Killed) is Killed:
                raise Killed

        with pytest.raises(Killed):
            go(run, Fake(bad=frozenset({3}), before_test=die))
    go(run, Fake(bad=frozenset({3})))
    assert result(run) == whole


@pytest.mark.parametrize("nth", [1, 3, 7, 20, 41, 64])
def test_a_process_killed_at_a_file_operation(tmp_path: Path, whole: Any, nth: int) -> None:
    run = make(tmp_path)
    script = [sys.executable, __file__, str(run.path), str(nth)]
    assert subprocess.run(script, check=False).returncode == -signal.SIGKILL
    go(run, Fake(bad=frozenset({3})))
    assert result(run) == whole
    left = [name for _, _, names in os.walk(run.path) for name in names if name.endswith(".tmp")]
    assert not left


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", [0, 2, 5, LENGTH - 1])
def test_a_signal_finishes_the_step_and_saves(
    tmp_path: Path, whole: Any, number: signal.Signals, moment: int
) -> None:
    run, handler = make(tmp_path), signal.getsignal(number)

    def stop(iteration: int) -> None:
        if iteration == moment:
            os.kill(os.getpid(), number)

    with pytest.raises(
        Stopped, match=f"stopped after iteration {moment + 1}; --resume goes on"
    ) as caught:
        go(run, Fake(bad=frozenset({3}), before_step=stop))
    assert caught.value.exit_code == 75
    assert caught.value.run == run.path
    assert int(run.checkpoints.paths()[-1].stem) == moment + 1
    assert signal.getsignal(number) is handler
    go(run, Fake(bad=frozenset({3})))
    assert result(run) == whole


def test_a_signal_abandons_a_test_which_the_resumed_run_makes(tmp_path: Path, whole: Any) -> None:
    run, ear = make(tmp_path), Ear()

    def stop() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the test went on")

    with pytest.raises(Stopped, match="after iteration 3;"):
        go(run, Fake(bad=frozenset({3}), before_test=stop), ear=ear)
    assert ear.of("tested") == []
    go(run, Fake(bad=frozenset({3})), ear=ear)
    assert ear.of("tested") == [3, 5, 8, 10, 12]
    assert result(run) == whole


def test_a_row_that_no_checkpoint_knows_of_is_not_logged_twice(tmp_path: Path, whole: Any) -> None:
    run = make(tmp_path)

    def stop() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    def die() -> None:
        raise Killed

    with pytest.raises(Stopped, match="after iteration 3;"):
        go(run, Fake(bad=frozenset({3}), before_test=stop))
    with pytest.raises(Killed):  # after the test and its row, before their checkpoint
        go(run, Fake(bad=frozenset({3}), before_state=die))
    go(run, Fake(bad=frozenset({3})))
    assert result(run) == whole


def test_a_second_signal_ends_at_once(tmp_path: Path, whole: Any) -> None:
    run = make(tmp_path)
    handler = signal.getsignal(signal.SIGTERM)

    def stop(iteration: int) -> None:
        if iteration == 6:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        go(run, Fake(bad=frozenset({3}), before_step=stop))
    assert signal.getsignal(signal.SIGTERM) is handler
    assert [int(p.stem) for p in run.checkpoints.paths()] == [3, 5]
    go(run, Fake(bad=frozenset({3})))
    assert result(run) == whole


def test_signals_are_left_alone_in_a_thread_and_when_ignored(tmp_path: Path) -> None:
    run, outcomes = make(tmp_path), list[Outcome]()
    thread = threading.Thread(target=lambda: outcomes.append(go(run, Fake())))
    thread.start()
    thread.join()
    assert outcomes[0].ran == LENGTH
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        outcome = go(
            make(tmp_path), Fake(before_step=lambda _: os.kill(os.getpid(), signal.SIGINT))
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert outcome.ran == LENGTH


def test_three_bad_updates_in_a_row_are_a_divergence(tmp_path: Path) -> None:
    run = make(tmp_path)
    words = r"not finite from iteration 8 on; the last finite loss was \d.*; 00000008.* is kept"
    with pytest.raises(Diverged, match=words) as caught:
        go(run, Fake(bad=frozenset({2, 4, 5, 7, 8, 9})))
    assert caught.value.exit_code == 1
    found = run.checkpoints.newest()
    assert found is not None
    assert found.progress.bad == 1
    assert np.isfinite(found.state.weights["w"]).all()
    with pytest.raises(Diverged):  # counted on over the resume
        go(run, Fake(bad=frozenset({8, 9})))
    with pytest.raises(Diverged, match="no loss was finite; there is no checkpoint yet"):
        go(
            make(tmp_path),
            Fake(bad=frozenset(range(9))),
            solver=SOLVER.model_copy(update={"test_interval": 50}),
        )


def test_a_finished_run_stays_as_it_is(tmp_path: Path, whole: Any) -> None:
    run, ear = make(tmp_path), Ear()
    first = go(run, Fake(bad=frozenset({3})))
    run.model_file.unlink()  # as if killed just before
    again = go(run, Fake(), ear=ear)
    assert again.ran == 0
    assert again.test == first.test
    assert not ear.of("tested")
    assert not ear.of("saved")
    assert result(run) == whole


def test_resume_refuses_what_does_not_fit(tmp_path: Path) -> None:
    run = make(tmp_path)
    go(run, Fake())
    with pytest.raises(UsageError, match="random_seed 7, not 8"):
        go(run, Fake(), solver=SOLVER.model_copy(update={"random_seed": 8}))
    with pytest.raises(UsageError, match="12 iterations are done, beyond 11"):
        go(run, Fake(), length=11)
    run.spec.write_text('name: "other"\n')
    with pytest.raises(DataError, match="belongs to another text of"):
        go(run, Fake())


def test_resume_falls_back_and_says_so(tmp_path: Path, whole: Any) -> None:
    run, ear = make(tmp_path), Ear()
    go(run, Fake(bad=frozenset({3})))
    newest = run.checkpoints.paths()[-1]
    newest.write_bytes(newest.read_bytes()[:-1] + b"\xff")
    assert go(run, Fake(bad=frozenset({3})), ear=ear).ran == 2
    (warning,) = ear.of("warned")
    assert "does not have the sha256" in warning
    assert "fell back to iteration 10" in warning
    assert result(run) == whole


def test_a_full_disk_stops_with_the_old_checkpoint(
    tmp_path: Path, whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(tmp_path)

    def fill(iteration: int) -> None:
        if iteration == 6:
            monkeypatch.setattr(shutil, "disk_usage", lambda _: (10**9, 10**9, 0))

    with pytest.raises(
        DataError, match=r"00000008\.safetensors: needs 1\.05 MB, and 0\.00 MB are free$"
    ):
        go(run, Fake(bad=frozenset({3}), before_step=fill))
    monkeypatch.undo()
    assert [int(p.stem) for p in run.checkpoints.paths()] == [3, 5]
    go(run, Fake(bad=frozenset({3})))
    assert result(run) == whole


def test_the_best_is_the_lowest_loss_where_there_is_no_metric(tmp_path: Path) -> None:
    losses = iter([3.0, 1.0, float("nan"), 2.0, 1.0])
    fake = Fake()
    fake.evaluate = lambda batches=None: SimpleNamespace(  # type: ignore[method-assign]
        loss=next(losses), losses={}, metrics={}
    )
    outcome = go(make(tmp_path), fake)
    assert outcome.best == 1.0
    assert outcome.best_iteration == 5


def test_a_row_holds_the_means_since_the_row_before() -> None:
    averages = Averages().add({"loss": 1.0, "accuracy": 0.25}).add({"loss": 2.0, "accuracy": 0.75})
    assert averages.means() == {"loss": 1.5, "accuracy": 0.5}
    assert Averages().means() == {}


def test_progress_has_all_that_the_loop_keeps() -> None:
    """What the loop keeps beside `progress` may change no later step: this list is to be judged."""
    rest = set(loop._Loop.__dataclass_fields__) - {"progress"}
    given = {"executor", "batches", "solver", "run", "length", "listener", "signals", "tests",
             "snapshot", "diagnose", "keep_start", "clock"}  # fmt: skip
    kept = {"saved", "saved_at", "started", "log", "due"}
    assert rest - given == {"save_seconds"}
    assert set(re.findall(r"self\.(\w+)(?:, self\.\w+)* = ", inspect.getsource(loop._Loop))) <= {
        "progress", *kept
    }  # fmt: skip
    assert Progress.model_fields["averages"]


def killed_at(nth: int) -> None:
    """Make the nth file operation of this process its last."""
    count = 0

    def counted(real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == nth:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    for name in ("open", "write", "fsync", "replace", "unlink", "truncate"):
        setattr(os, name, counted(getattr(os, name)))


if __name__ == "__main__":
    killed_at(int(sys.argv[2]))
    go(Run.open(Path(sys.argv[1])), Fake(bad=frozenset({3})))
