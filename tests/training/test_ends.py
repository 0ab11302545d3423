"""Ends before the planned one, the best weights, and the way back after a divergence."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fakes import LENGTH, Ear, Fake, Killed, asking, go, make, onnx, result
from numpy.typing import NDArray
from pydantic import ValidationError

from netspec.diagnostics import NetspecError, UsageError
from netspec.ir.duration import seconds, spoken
from netspec.training.outcome import Diverged, Stopped
from netspec.training.runs.checkpoint import State, load

EPOCHS = [3, 5, 8, 10, 12]
"""Iterations after which 10 samples in batches of 4 are tested."""


@dataclass
class Staged(Fake):
    """Its tests give the scores, by iteration; from `wild` on it is not finite above a rate."""

    scores: dict[int, float] = field(default_factory=dict)
    wild: int = 99
    bound: float = 0.0
    rates: list[float] = field(default_factory=list)
    seen: list[tuple[int, ...]] = field(default_factory=list)
    done: int = 0

    def step(
        self, iteration: int, indices: NDArray[Any], rate: float, stopped: Callable[[], bool]
    ) -> Any:
        self.rates.append(rate)
        self.seen.append(tuple(indices))
        self.done = iteration + 1
        self.bad = frozenset({iteration} if iteration >= self.wild and rate > self.bound else ())
        return super().step(iteration, indices, rate, stopped)

    def state(self) -> State:
        known = super().state()
        done = np.array(self.done, np.float32)
        return replace(known, statistics={**known.statistics, "done": done})

    def restore(self, state: State) -> None:
        super().restore(state)
        self.done = int(state.statistics["done"])

    def evaluate(self, batches: int | None = None) -> Any:
        super().evaluate(batches)
        score = self.scores.get(self.done, 0.0)
        return SimpleNamespace(loss=1 - score, losses={}, metrics={"accuracy": score}, samples=3)


class Clock:
    """A second passes with each look at it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def test_a_training_ends_when_its_score_stalls(tmp_path: Path) -> None:
    run, ear = make(tmp_path), Ear()
    scores = {3: 0.5, 5: 0.7, 8: 0.7, 10: 0.6, 12: 0.9}
    outcome = go(run, Staged(scores=scores), solver=asking(early_stopping=2), ear=ear)
    assert ear.of("tested") == ear.of("saved") == [3, 5, 8, 10]
    assert (outcome.iterations, outcome.best, outcome.best_iteration) == (10, 0.7, 5)
    said = "ended after iteration 10 of 12: early_stopping, 2 tests without a better score"
    assert outcome.ending == said
    again = go(run, Staged(scores=scores), solver=asking(early_stopping=2))
    assert (again.ran, again.ending) == (0, said)


def test_a_score_must_be_better_by_min_delta(tmp_path: Path) -> None:
    scores = {3: 0.5, 5: 0.55, 8: 0.58, 10: 0.7, 12: 0.71}
    solver = asking(early_stopping=2, min_delta=0.1)
    outcome = go(make(tmp_path), Staged(scores=scores), solver=solver)
    assert (outcome.iterations, outcome.best_iteration) == (8, 8)  # the best is the best
    outcome = go(make(tmp_path), Staged(scores=scores), solver=asking(early_stopping=2))
    assert (outcome.iterations, outcome.ending) == (LENGTH, "")


def test_a_loss_stalls_when_it_no_longer_falls(tmp_path: Path) -> None:
    losses = iter([3.0, 1.0, float("nan"), 1.0, 0.5])
    fake = Fake()
    fake.evaluate = lambda batches=None: SimpleNamespace(  # type: ignore[method-assign]
        loss=next(losses), losses={}, metrics={}
    )
    outcome = go(make(tmp_path), fake, solver=asking(early_stopping=2))
    assert (outcome.iterations, outcome.best) == (10, 1.0)
    assert not outcome.higher


def test_a_training_ends_when_its_time_is_over(tmp_path: Path) -> None:
    run, ear, clock = make(tmp_path), Ear(), Clock()

    def pass_by(_: int) -> None:
        clock.now += 100

    solver = asking(max_time="10m")
    outcome = go(run, Fake(before_step=pass_by), solver=solver, ear=ear, clock=clock)
    assert outcome.iterations == 6
    assert outcome.ending.startswith("ended after iteration 6 of 12: max_time is over, 10 min")
    assert ear.of("tested") == [3, 5, 6]
    assert run.model_file.exists()
    assert [row[0] for row in result(run)[2]][1:] == ["2", "3", "4", "5", "6"]
    longer = asking(max_time="20m")
    again = go(run, Fake(before_step=pass_by), solver=longer, clock=clock)
    assert (again.iterations, again.ending) == (LENGTH, "")


def test_the_time_before_a_stop_counts(tmp_path: Path) -> None:
    run, clock = make(tmp_path), Clock()

    def pass_by(iteration: int) -> None:
        clock.now += 100
        if iteration == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    solver = asking(max_time=600)
    with pytest.raises(Stopped):
        go(run, Fake(before_step=pass_by), solver=solver, clock=clock)
    clock.now += 10_000  # between the processes
    outcome = go(run, Fake(before_step=pass_by), solver=solver, clock=clock)
    assert outcome.iterations == 6
    assert 600 <= outcome.seconds < 640


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="signals of POSIX")
def test_usr1_saves_and_stops(tmp_path: Path) -> None:
    run = make(tmp_path)
    handler = signal.getsignal(signal.SIGUSR1)

    def stop(iteration: int) -> None:
        if iteration == 6:
            os.kill(os.getpid(), signal.SIGUSR1)

    with pytest.raises(Stopped, match="after iteration 7;"):
        go(run, Fake(before_step=stop))
    assert signal.getsignal(signal.SIGUSR1) is handler
    assert go(run, Fake()).ran == LENGTH - 7


def test_the_best_weights_lie_beside_the_last(tmp_path: Path) -> None:
    run = make(tmp_path)
    go(run, Staged(scores={5: 0.9}))
    state, _ = load(run.checkpoints.path(5))
    assert np.array_equal(run.weights(best=True)["w"], state.weights["w"])
    assert run.best_model_file.read_bytes() == onnx(state)
    assert not np.array_equal(run.weights()["w"], state.weights["w"])
    last = make(tmp_path)
    go(last, Staged(scores={12: 0.9}))
    assert last.best_weights_file.read_bytes() == last.weights_file.read_bytes()
    assert last.best_model_file.read_bytes() == last.model_file.read_bytes()


def test_no_tests_have_no_best_and_a_damaged_one_is_told(tmp_path: Path) -> None:
    run = make(tmp_path)
    go(run, Fake(), tests=False)
    assert not run.best_weights_file.exists()
    run, ear = make(tmp_path), Ear()

    def damage(iteration: int) -> None:
        if iteration == 7:
            run.checkpoints.path(5).write_bytes(b"nothing")

    go(run, Staged(scores={5: 0.9}, before_step=damage), ear=ear)
    assert not run.best_weights_file.exists()
    assert run.model_file.exists()
    (warning,) = ear.of("warned")
    assert "the best weights, of iteration 5, are not written" in warning


def test_the_best_has_a_model_where_the_end_has_none(tmp_path: Path) -> None:
    run, last = make(tmp_path), Staged(scores={5: 0.9})

    def sound(state: State) -> bytes:
        if np.array_equal(state.weights["w"], last.state().weights["w"]):
            raise NetspecError("cannot be verified")
        return onnx(state)

    with pytest.raises(NetspecError, match="cannot be verified"):
        go(run, last, model=sound)
    state, _ = load(run.checkpoints.path(5))
    assert run.best_model_file.read_bytes() == onnx(state)
    assert not run.model_file.exists()


FIXED = {"lr_policy": "fixed", "power": None}


def test_a_training_that_diverges_goes_back(tmp_path: Path) -> None:
    run, ear, back = make(tmp_path), Ear(), list[tuple[int, int, str]]()
    ear.rolled_back = lambda *said: back.append(said)  # type: ignore[method-assign]
    fake = Staged(wild=6, bound=0.03)
    outcome = go(run, fake, solver=asking(rollback=2, **FIXED), ear=ear)
    assert [said[:2] for said in back] == [(9, 5), (9, 5)]
    assert "not finite from iteration 7 on" in back[0][2]
    assert fake.rates == [0.1] * 9 + [0.05] * 4 + [0.025] * 7
    assert fake.seen[5:9] == fake.seen[9:13] == fake.seen[13:17]
    assert outcome.iterations == LENGTH
    rows = result(run)[2][1:]
    assert [row[0] for row in rows] == ["2", "3", "4", "5", "6", "8", "10", "12"]
    assert float(rows[-1][2]) == 0.025


def test_a_rollback_may_leave_batches_out(tmp_path: Path) -> None:
    fake = Staged(wild=6, bound=1.0)

    def step(
        iteration: int, indices: NDArray[Any], rate: float, stopped: Callable[[], bool]
    ) -> Any:
        fake.bound = 0.0 if tuple(indices) in poison else 1.0
        return Staged.step(fake, iteration, indices, rate, stopped)

    whole = Staged()
    go(make(tmp_path), whole, length=20, solver=asking(max_iter=20, **FIXED))
    poison = set(whole.seen[6:9])
    fake.step = step  # type: ignore[method-assign]
    solver = asking(rollback=1, rollback_factor=1, rollback_skip=3, **FIXED)
    outcome = go(make(tmp_path), fake, solver=solver)
    assert outcome.iterations == LENGTH
    assert fake.seen == [*whole.seen[:9], *whole.seen[9:16]]
    assert set(fake.rates) == {0.1}


def test_what_diverges_too_often_or_at_once(tmp_path: Path) -> None:
    run = make(tmp_path)
    with pytest.raises(Diverged, match="not finite from iteration 7 on"):
        go(run, Staged(wild=6), solver=asking(rollback=2, **FIXED))
    again = make(tmp_path)  # before any test: the start was kept
    outcome = go(
        again, Staged(wild=0, bound=0.06), solver=asking(rollback=2, test_interval=50, **FIXED)
    )
    assert outcome.iterations == LENGTH
    with pytest.raises(Diverged):  # in its last steps, with no patience left
        go(make(tmp_path), Staged(wild=LENGTH - 1), solver=asking(rollback=1, **FIXED))
    late = go(
        make(tmp_path), Staged(wild=LENGTH - 1, bound=0.06), solver=asking(rollback=1, **FIXED)
    )
    assert late.iterations == LENGTH


def test_weights_that_are_lost_are_not_written(tmp_path: Path) -> None:
    """An update may overflow though its gradient did not, and no test be there to see it."""
    run, fake = make(tmp_path), Fake()
    step = fake.step

    def overflow(
        iteration: int, indices: NDArray[Any], rate: float, stopped: Callable[[], bool]
    ) -> Any:
        found = step(iteration, indices, rate, stopped)
        if iteration == LENGTH - 1:
            fake.w = fake.w + np.float32(np.inf)
        return found

    fake.step = overflow  # type: ignore[method-assign]
    with pytest.raises(Diverged, match="the weights are not finite after iteration 12"):
        go(run, fake, tests=False)
    assert not run.weights_file.exists()


def test_no_anchor_has_lost_weights(tmp_path: Path) -> None:
    run, fake = make(tmp_path), Staged(wild=6, bound=0.06)
    step = fake.step

    def overflow(
        iteration: int, indices: NDArray[Any], rate: float, stopped: Callable[[], bool]
    ) -> Any:
        found = step(iteration, indices, rate, stopped)
        if iteration == 4 and rate > 0.06:
            fake.w = fake.w + np.float32(np.inf)
        return found

    fake.step = overflow  # type: ignore[method-assign]
    solver = asking(rollback=1, **FIXED)
    with np.errstate(invalid="ignore"):
        assert go(run, fake, solver=solver).iterations == LENGTH
    assert fake.rates == [0.1] * 9 + [0.05] * 9  # back to 3, not to 5


def test_the_fault_of_the_first_bad_iteration_is_looked_for(tmp_path: Path) -> None:
    asked: list[int] = []

    def diagnose(iteration: int, indices: NDArray[Any]) -> str:
        asked.append(iteration)
        assert len(indices) == 4
        return "`fc1` was first"

    with pytest.raises(Diverged, match="may help\n`fc1` was first"):
        go(make(tmp_path), Fake(bad=frozenset({7, 8, 9})), diagnose=diagnose)
    assert asked == [7]


EVERYTHING = asking(
    rollback=3, rollback_skip=1, early_stopping=2, test_initialization=True, average_loss=3,
    display=1, max_time="1d", **FIXED,
)  # fmt: skip
SCORES = {3: 0.5, 5: 0.6, 8: 0.4, 10: 0.5}


def troubled(**more: Any) -> Staged:
    return Staged(wild=6, bound=0.06, scores=SCORES, **more)


def files(run: Any) -> tuple[Any, ...]:
    return (*result(run), run.best_weights_file.read_bytes(), run.best_model_file.read_bytes())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    run = make(tmp_path_factory.mktemp("whole"))
    assert go(run, troubled(), solver=EVERYTHING).iterations == 10
    return files(run)


@pytest.mark.parametrize("save_seconds", [600.0, 0.0])
@pytest.mark.parametrize("nth", range(14))
def test_whatever_the_ends_a_killed_run_has_the_same_bytes(
    tmp_path: Path, whole: tuple[Any, ...], nth: int, save_seconds: float
) -> None:
    run, left = make(tmp_path), iter([None] * nth)

    def die(_: int, left: Iterator[None] = left) -> None:
        if next(left, Killed) is Killed:
            raise Killed

    with pytest.raises(Killed):
        go(run, troubled(before_step=die), solver=EVERYTHING, save_seconds=save_seconds)
    go(run, troubled(), solver=EVERYTHING)
    assert files(run) == whole


@pytest.mark.parametrize("nth", range(7))
def test_a_signal_in_a_test_changes_no_end(
    tmp_path: Path, whole: tuple[Any, ...], nth: int
) -> None:
    run, left = make(tmp_path), iter([None] * nth)

    def stop(left: Iterator[None] = left) -> None:
        if next(left, Killed) is Killed:
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        go(run, troubled(before_test=stop), solver=EVERYTHING)
    except Stopped:
        go(run, troubled(), solver=EVERYTHING)
    assert files(run) == whole


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"early_stopping": 0}, "at least 1"),
        ({"early_stopping": 3, "test_interval": 0}, "early_stopping needs tests"),
        ({"min_delta": 0.1}, "min_delta goes with early_stopping"),
        ({"max_time": "soon"}, "must be a time such as 90m or 1h30m"),
        ({"max_time": 0}, "above 0"),
        ({"max_time": "30m2h"}, "must be a time"),
        ({"rollback": -1}, "at least 0"),
        ({"rollback": 1, "rollback_factor": 1.5}, "at most 1"),
        ({"rollback": 1, "rollback_factor": 1}, "rollback repeats itself"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        asking(**fields)


def test_early_stopping_needs_test_data(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="early_stopping needs test data"):
        go(make(tmp_path), Fake(), solver=asking(early_stopping=3), tests=False)


def test_times() -> None:
    texts = {"90m": 5400, "1h30m": 5400, "2d": 172_800, "45": 45, "1.5h": 5400, "1 h 5 s": 3605}
    assert {text: seconds(text) for text in texts} == texts
    assert seconds(2.5) == 2.5
    for bad in ("", "m", "1x", "-5m", "0s", "5m5m", "1e3", "٣m"):
        with pytest.raises(ValueError, match="must be a time"):
            seconds(bad)
    assert [spoken(t) for t in (3.44, 125, 5400, 90_000)] == [
        "3.4 s", "2 min 5 s", "1 h 30 min", "25 h",
    ]  # fmt: skip
