"""`events.jsonl` tells the history of the weights, whatever happened on the way."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args
from unittest.mock import Mock

import numpy as np
import pytest
from numpy.typing import NDArray

from netspec.compiler import read
from netspec.data.order import Batches
from netspec.diagnostics import DataError
from netspec.ir.sections import Solver
from netspec.training.launch import train
from netspec.training.listener import Listener
from netspec.training.listeners import Listeners
from netspec.training.logs import events, norms
from netspec.training.logs.appended import Appended
from netspec.training.logs.events import Event, Resumed, Started, line, read_events
from netspec.training.logs.recorder import Recorder
from netspec.training.loop import train as train_loop
from netspec.training.outcome import Diverged, Outcome
from netspec.training.restoring import restore
from netspec.training.runs.checkpoint import Progress, State
from netspec.training.runs.run import Run, latest_run
from netspec.training.runs.settings import Settings

LENGTH = 12
SOLVER = Solver(base_lr=0.1, max_iter=LENGTH, display=2, random_seed=7)


class Killed(BaseException):
    """Stands for the end of the process: nothing is written down any more."""


class Fake:
    """A deterministic training of one number, killed before iteration `dies`."""

    def __init__(self, dies: int = -1) -> None:
        self.w = np.ones(1, np.float32)
        self.dies = dies

    def step(
        self, iteration: int, indices: NDArray[Any], rate: float, stopped: Callable[[], bool]
    ) -> Any:
        if iteration == self.dies:
            raise Killed
        if iteration == 3:
            return SimpleNamespace(
                loss=float("inf"), losses={}, metrics={}, finite=False, sought=False
            )
        self.w = self.w * np.float32(0.9)
        return SimpleNamespace(
            loss=float(self.w[0]), losses={}, metrics={}, finite=True, sought=False
        )

    def evaluate(self, batches: int | None = None) -> Any:
        return SimpleNamespace(loss=float(self.w[0]), losses={}, metrics={"accuracy": 0.5})

    def state(self) -> State:
        return State({"w": self.w}, {}, {})

    def restore(self, state: State) -> None:
        self.w = state.weights["w"]


def go(run: Run, fake: Fake, *, save_seconds: float = 600.0) -> list[str]:
    """Train, or go on; the warnings."""
    warned: list[str] = []
    with run.lock():
        again = run.events.exists()
        progress = restore(fake, run)
        since = progress or Progress()
        _, size = read_events(run.events, since)
        begin = Resumed if again else _started
        file = Appended(run.events, size, warned.append)
        recorder = Recorder(
            file, lambda i: i / 5, begin, iteration=since.iteration, clock=lambda: 1.5
        )
        batches = Batches(10, 2, seed=7, shuffle=True)
        train_loop(
            fake, batches, SOLVER, run, resume=progress, length=LENGTH,
            listener=recorder, save_seconds=save_seconds,
        )  # fmt: skip
    return warned


def _started(**facts: Any) -> Event:
    return Started(net="net", batch=2, samples=10, **facts)


def make(root: Path) -> Run:
    return Run.create(root, Settings(name="net", seed=7), {"spec.net": 'name: "net"\n'})


def lines(run: Run) -> list[dict[str, Any]]:
    return [json.loads(text) for text in run.events.read_text("utf-8").splitlines()]


def lasting(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What does not hang on kills: all but where it went on, and which checkpoints were there."""
    return [e for e in found if e["event"] not in ("resumed", "saved", "finished")]


def test_every_kind_of_line(tmp_path: Path) -> None:
    run = make(tmp_path)
    go(run, Fake())
    found = lines(run)
    assert found[0] == {
        "iteration": 0, "epoch": 0.0, "time": 1.5, "version": 1, "event": "started",
        "net": "net", "length": 12, "batch": 2, "samples": 10,
    }  # fmt: skip
    told = [(e["iteration"], e["event"]) for e in found]
    assert told == [
        (0, "started"), (2, "row"), (4, "skipped"), (4, "row"), (5, "tested"), (5, "row"),
        (5, "saved"), (6, "row"), (8, "row"), (10, "tested"), (10, "row"), (10, "saved"),
        (12, "tested"), (12, "row"), (12, "saved"), (12, "finished"),
    ]  # fmt: skip
    row, tested, saved = found[1], found[4], found[6]
    assert row["lr"] == 0.1
    assert row["train"] == {"loss": pytest.approx(0.855)}
    assert tested["test"].keys() == {"loss", "accuracy"}
    assert saved["path"] == "checkpoints/00000005.safetensors"
    assert found[-1]["skipped"] == 1
    parsed, size = read_events(run.events)
    assert size == run.events.stat().st_size
    assert b"".join(map(line, parsed)) == run.events.read_bytes()


@pytest.mark.parametrize("save_seconds", [600.0, 0.0])
@pytest.mark.parametrize("moment", range(LENGTH))
def test_a_run_that_was_killed_tells_the_same_once(
    tmp_path: Path, moment: int, save_seconds: float
) -> None:
    whole, run = make(tmp_path), make(tmp_path)
    go(whole, Fake())
    with pytest.raises(Killed):
        go(run, Fake(dies=moment), save_seconds=save_seconds)
    go(run, Fake(), save_seconds=save_seconds)
    assert lasting(lines(run)) == lasting(lines(whole))
    (resumed,) = [e for e in lines(run) if e["event"] == "resumed"]
    assert resumed["version"] == 1
    order = [e["iteration"] for e in lines(run)]
    assert order == sorted(order)


def test_any_torn_end_is_cut(tmp_path: Path) -> None:
    run = make(tmp_path)
    go(run, Fake())
    text = run.events.read_bytes()
    for length in range(0, len(text), 7):
        run.events.write_bytes(text[:length] + b"\0\0" * (length % 2))
        found, size = read_events(run.events)
        assert size == text[:length].rfind(b"\n") + 1
        assert b"".join(map(line, found)) == text[:size]
        Appended(run.events, size, pytest.fail).append(b"x\n")
        assert run.events.read_bytes() == text[:size] + b"x\n"


@pytest.mark.parametrize(
    "strange",
    [b"{}", b"[]", b"null", b'{"event": "row"}', b'{"event": "nothing"}', b"[" * 10_000,
     b'{"version": 2, "event": "started"}', b"\xff", b"1" * 5_000],
)  # fmt: skip
def test_what_is_no_event_ends_the_file(tmp_path: Path, strange: bytes) -> None:
    path = tmp_path / "events.jsonl"
    first = line(_started(iteration=0, epoch=0, time=0, length=1))
    path.write_bytes(first + strange + b"\n" + first)
    assert [len(read_events(path)[0]), read_events(path)[1]] == [1, len(first)]


def test_a_full_disk_costs_one_warning_and_no_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    file = Appended(tmp_path / "events.jsonl", 0, warned.append)
    file.append(b"1\n")
    real = os.write

    def full(descriptor: int, text: Any) -> int:
        if len(text) > 5:
            return real(descriptor, text[:5])  # torn
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        file.append(b"22222222\n")
        file.append(b"3\n")
        file.sync()
    assert len(warned) == 1
    assert "the log is behind, training goes on: No space left on device" in warned[0]
    file.append(b"4\n")
    assert file.path.read_bytes() == b"1\n22222222\n3\n4\n"


def test_numbers_that_are_not_finite_are_null(tmp_path: Path) -> None:
    nan = float("nan")
    event = events.Tested(iteration=1, epoch=1, time=0, test={"loss": nan, "a": float("inf")})
    assert json.loads(line(event))["test"] == {"loss": None, "a": None}
    path = tmp_path / "events.jsonl"
    path.write_bytes(line(event))
    assert read_events(path)[0][0].test == {"loss": None, "a": None}  # type: ignore[union-attr]


def test_every_field_is_described() -> None:
    for kind in (*get_args(Event), events.Norm):
        assert kind.__doc__
        for base in kind.__mro__[:-3]:
            text = Path(events.__file__).read_text("utf-8")
            body = text.split(f"class {base.__name__}(")[1].split("\nclass ")[0]
            for name in base.__annotations__:
                if name not in ("model_config", "event"):
                    said = body.split(f"    {name}: ")[1].split("\n")[1]
                    assert said.strip().startswith('"""'), (kind, name)
    assert len(events.schema()["oneOf"]) == len(get_args(Event))  # type: ignore[arg-type]


def test_listeners_all_hear_everything() -> None:
    told: list[tuple[str, tuple[Any, ...]]] = []

    class Ear(Listener):
        def __getattribute__(self, name: str) -> Any:
            return lambda *facts: told.append((name, facts))

    methods = [name for name in vars(Listener) if not name.startswith("_")]
    assert {"recorded", "skipped", "saving", "finished"} <= set(methods)
    both = Listeners(Ear(), Ear())
    for name in methods:
        getattr(both, name)(name)
    assert told == [(name, (name,)) for name in methods for _ in "12"]


def test_one_who_joins_hears_the_warnings_so_far() -> None:
    early, late = _Warned(), _Warned()
    both = Listeners(early)
    both.warned("a")
    both.join(late)
    both.warned("b")
    assert early.heard == late.heard == ["a", "b"]


class _Warned(Listener):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def warned(self, message: str) -> None:
        self.heard.append(message)


NET = """
name: "small"
data "train" { source: "samples.npz"  batch_size: 4  transform { scale: 1/255 } }
data "test" { source: "samples.npz"  batch_size: 4  transform { scale: 1/255 } }
input "data" { shape: 3x8x8 }
fc "f" { num_output: 3 }
softmax_loss
"""


@pytest.fixture
def small(tmp_path: Path) -> Callable[[str], Path]:
    """A spec of a few weights on twelve samples, with this solver."""
    generator = np.random.default_rng(0)
    np.savez(
        tmp_path / "samples.npz",
        data=generator.integers(0, 256, (12, 3, 8, 8), np.uint8),
        label=generator.integers(0, 3, 12),
    )

    def spec(solver: str) -> Path:
        path = tmp_path / "net.net"
        path.write_text(f"{NET}solver {{ {solver} }}\n")
        return path

    return spec


def of(run: Run) -> Mapping[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for event in lines(run):
        found.setdefault(event["event"], []).append(event)
    return found


def trained(spec: Path, runs: Path, **more: Any) -> Outcome:
    return train(read(str(spec)), runs=runs, device="cpu", **more)


def test_norms_of_a_training(small: Callable[[str], Path], tmp_path: Path) -> None:
    """Without momentum and decay an update is the rate times the gradient."""
    spec = small("base_lr: 0.25  max_iter: 6  weight_decay: 0")
    run = Run.open(trained(spec, tmp_path / "runs").run)
    found = of(run)["norms"]
    assert [e["iteration"] for e in found] == [1, 3, 6]
    for event in found:
        assert list(event["parameters"]) == ["f.weight", "f.bias"]
        for norm in event["parameters"].values():
            assert norm["update"] == pytest.approx(0.25 * norm["gradient"], rel=1e-3)
    state = run.checkpoints.newest()
    assert state is not None
    last = float(np.linalg.norm(state.state.weights["f.weight"]))
    norm = found[-1]["parameters"]["f.weight"]
    assert abs(last - norm["weight"]) <= norm["update"] < 0.5 * last


@pytest.mark.parametrize("size", [1e-30, 1e-20, 1.0, 1e18, 1e30])
def test_norms_of_any_size(size: float) -> None:
    values = (np.random.default_rng(0).normal(size=(30, 7)) * size).astype(np.float32)
    expected = np.linalg.norm(values.astype(np.float64))
    assert norms._norm(values) == pytest.approx(expected, rel=1e-3)
    assert norms._norm(values * 0) == 0
    values[0, 0] = np.nan
    assert norms._norm(values) is None


def test_what_ends_a_training_is_told(small: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(Diverged):
        trained(small("base_lr: 1e38  max_iter: 9  display: 1"), tmp_path / "runs")
    run = latest_run(tmp_path / "runs", "small")
    assert run is not None
    found = of(run)
    assert len(found["skipped"]) == 3
    assert "diverged" in found["failed"][0]["message"]
    assert "finished" not in found


def test_a_warning_before_the_folder_comes_after_the_first_line(
    small: Callable[[str], Path], tmp_path: Path
) -> None:
    spec = small("base_lr: 0.1  max_iter: 3")
    text = spec.read_text()
    spec.write_text(text.replace("num_output: 3", "num_output: 5"))
    run = Run.open(trained(spec, tmp_path / "runs").run)
    assert [e["event"] for e in lines(run)][:2] == ["started", "warned"]
    assert any("tells 5 classes apart" in event["message"] for event in of(run)["warned"])
    outcome = trained(spec, tmp_path / "runs", resume=True)
    assert outcome.ran == 0
    assert len(of(run)["tested"]) == 1


def test_what_cannot_be_read_is_not_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "events.jsonl"
    start = Started(iteration=0, epoch=0, time=1, net="n", length=9, batch=1, samples=1)
    path.write_bytes(line(start))
    assert len(read_events(path)[0]) == 1
    monkeypatch.setattr(Path, "open", Mock(side_effect=OSError(5, "Input/output error")))
    with pytest.raises(DataError, match=r"events\.jsonl: cannot be read: Input/output error"):
        read_events(path)
