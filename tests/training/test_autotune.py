"""Measured formulations: what overrides the rules, what is kept, and what a resumed run takes."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import netspec
from netspec.autodiff import grad
from netspec.codegen import measured
from netspec.codegen.builder import Builder
from netspec.codegen.emit import emit
from netspec.codegen.formulate import formulate
from netspec.codegen.formulation import Formulation, Sight
from netspec.codegen.layout import Plan, plan
from netspec.codegen.measured import BY_RULES, Choices, is_close, key
from netspec.codegen.simplify import simplify
from netspec.codegen.target import CPU_PLAIN, Target, cpu_blocked
from netspec.diagnostics import printable
from netspec.ir.graph import Graph, Op
from netspec.ir.types import TensorType
from netspec.runtime.device import Device
from netspec.runtime.session import make_session
from netspec.training.execution import autotune, tuned
from netspec.training.execution.autotune import Tuner, fastest
from netspec.training.execution.targets import target_for
from netspec.training.execution.tuned import FILE, Circumstances, Measured, Tuned
from netspec.training.listener import Listener
from netspec.training.outcome import Stopped

CPU = Device("cpu")
HERE = Circumstances(
    netspec="1", onnxruntime="2", processor="P", threads=2, target="cpu", block=16
)  # fmt: skip


@pytest.fixture(autouse=True)
def everything_is_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "CLOSE", dict.fromkeys(measured.CLOSE, 0.0))


SHAPES = {"x": (2, 3, 9, 9), "a": (32, 3, 3, 3), "b": (32, 32, 3, 3), "c": (16, 32, 1, 1),
          "d": (16, 1, 3, 3), "y_bar": (2, 16, 5, 5)}  # fmt: skip


def sample() -> Graph:
    """A first, a usual, a pointwise and a depthwise convolution, and the gradients of all."""
    op = Builder()
    x, a, b, c, d, y_bar = (op.input(n, TensorType(s)) for n, s in SHAPES.items())
    wide: dict[str, Any] = {"kernel_shape": (3, 3), "strides": (1, 1), "pads": (1, 1, 1, 1)}
    point: dict[str, Any] = {"kernel_shape": (1, 1), "strides": (2, 2), "pads": (0, 0, 0, 0)}
    hidden = op.Relu(op.Conv(op.Relu(op.Conv(x, a, **wide)), b, **wide))
    y = op.Conv(op.Conv(hidden, c, **point), d, group=16, **wide)
    bars = grad(op, tuple(op.ops), {y: y_bar}, [x, a, b, c, d])
    return simplify(op.graph([y, *(bar for bar in bars if bar)], name="sample"))


def close_ones(graph: Graph, target: Target) -> dict[str, list[str]]:
    """The candidates of each key, the rules' choice first."""
    found: dict[str, list[str]] = {}

    def note(node: Op, right: Sequence[Formulation], sight: Sight) -> Formulation:
        chosen = BY_RULES(node, right, sight)
        if is_close(node, right):
            names = [f.name for f in right if f is not chosen]
            found[key(node, right, sight)] = [chosen.name, *names]
        return chosen

    plan(graph, target, note)
    return found


def names(planned: Plan) -> list[str]:
    return [f"{node.op_type}:{f.name}" for node, f in planned.chosen.items()]


def results(graph: Graph, target: Target, choices: Choices) -> list[np.ndarray]:
    made = formulate(graph, target, plan(graph, target, choices)).graph
    rng = np.random.default_rng(0)
    feeds = {n: rng.standard_normal(s).astype(np.float32) for n, s in SHAPES.items()}
    return list(make_session(emit(made), CPU).run(None, feeds))


def test_choices_override_the_rules() -> None:
    graph, target = sample(), cpu_blocked(16)
    close = close_ones(graph, target)
    assert len(close) >= 6
    before = names(plan(graph, target))
    for called, (_, *others) in close.items():
        for other in others:
            after = names(plan(graph, target, Choices({called: other})))
            operator = called.partition("(")[0].rpartition(":")[2]
            assert after.count(f"{operator}:{other}") > before.count(f"{operator}:{other}")


def test_what_is_not_known_is_left_to_the_rules() -> None:
    graph, target = sample(), cpu_blocked(16)
    called = next(iter(close_ones(graph, target)))
    before = names(plan(graph, target))
    for strange in ({"of another net": "taps"}, {called: "none of that name"}, {}):
        assert names(plan(graph, target, Choices(strange))) == before
    assert names(plan(graph, CPU_PLAIN, Choices({called: "taps"}))) == names(plan(graph, CPU_PLAIN))


def test_small_operators_and_those_with_one_formulation_are_not_close(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measured, "CLOSE", dict.fromkeys(measured.CLOSE, 1e9))
    assert close_ones(sample(), cpu_blocked(16)) == {}
    monkeypatch.setattr(measured, "CLOSE", {"ConvGradWeight": 2.0 * 81 * 32 * 32 * 9})
    (called,) = close_ones(sample(), cpu_blocked(16))
    assert "shape=32x32x3x3" in called


def test_a_key_is_one_line_that_says_what_counts() -> None:
    close = close_ones(sample(), cpu_blocked(16))
    assert (
        "dev.netspec:ConvGradWeight(float32[2x32x9x9]#, float32[2x32x9x9]#; dilations=1x1 group=1 "
        "kernel_shape=3x3 pads=1x1x1x1 shape=32x32x3x3 strides=1x1) float32[32x32x3x3]: images|taps"
    ) in close
    assert all(called.isascii() and printable(called) == called for called in close)


def test_all_choices_give_the_same_gradients() -> None:
    graph, target = sample(), target_for(CPU)
    wanted = results(graph, target, BY_RULES)
    for called, (_, *others) in close_ones(graph, target).items():
        for other in others:
            for mine, theirs in zip(results(graph, target, Choices({called: other})), wanted,
                                    strict=True):  # fmt: skip
                assert np.abs(mine - theirs).max() <= 1e-5 * np.abs(theirs).max(), (called, other)


class Clock:
    """A clock that only work makes go on."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Racer:
    """A formulation that takes as long as it is told to."""

    clock = Clock()
    costs: Mapping[str, float] = {}
    wrong: frozenset[str] = frozenset()
    broken: frozenset[str] = frozenset()
    runs = 0

    def __init__(self, node: Op, formulation: Formulation, *_: object) -> None:
        self.name = formulation.name
        if self.name in self.broken:
            raise RuntimeError("this shape is not supported")

    def run(self) -> None:
        Racer.runs += 1
        self.clock.now += self.costs.get(self.name, 1e-3)

    def agrees(self, other: Racer | None) -> bool:
        return other is not None and self.name not in self.wrong


class Timed(Tuner):
    """A tuner by the clock of the races."""

    def __init__(self, *given: Any, **settings: Any) -> None:
        super().__init__(*given, **{"clock": Racer.clock, **settings})


@pytest.fixture
def race(monkeypatch: pytest.MonkeyPatch) -> type[Racer]:
    monkeypatch.setattr(autotune, "_Racer", Racer)
    monkeypatch.setattr(autotune, "Tuner", Timed)
    for name, value in (("clock", Clock()), ("costs", {}), ("wrong", frozenset()),
                        ("broken", frozenset()), ("runs", 0)):  # fmt: skip
        monkeypatch.setattr(Racer, name, value)
    return Racer


def weight_choice(tuner: Tuner) -> str:
    """What became of the usual convolution's weight gradient; `images` by the rules."""
    graph = sample()
    planned = tuner(graph, cpu_blocked(16))
    (found,) = (
        f.name
        for node, f in planned.chosen.items()
        if node.op_type == "ConvGradWeight" and node.attrs["shape"] == SHAPES["b"]
    )
    return found


def test_a_disturbed_round_decides_nothing() -> None:
    even = {"images": [1.0] * 5, "taps": [0.9] * 5}
    assert fastest(even, "images") == "taps"
    assert fastest({**even, "products": [0.8] * 3}, "images") == "products"
    both = {name: [*times, 10 * times[0]] for name, times in even.items()}
    assert fastest(both, "images") == "taps"
    assert fastest({"images": [1.0, 1, 9, 9, 1], "taps": [0.99] * 5}, "images") == "images"
    assert fastest({"images": [9.0, 9, 9, 9, 1], "taps": [1.0] * 5}, "images") == "images"
    assert fastest({"images": [1.0]}, "images") == "images"


@pytest.mark.parametrize(("cost", "chosen"), [(0.9e-3, "taps"), (0.98e-3, "images"),
                                              (1.1e-3, "images"), (9e-3, "images")])  # fmt: skip
def test_the_fastest_is_taken_if_it_wins_by_enough(
    race: type[Racer], cost: float, chosen: str
) -> None:
    race.costs = {"taps": cost}
    tuner = Timed(CPU)
    assert weight_choice(tuner) == chosen
    times = [m for called, m in tuner.operators.items() if "shape=32x32x3x3" in called]
    assert times[0].ms == pytest.approx({"images": 1, "taps": 1e3 * cost})
    assert tuner.changed == sum(m.chosen != m.rules for m in tuner.operators.values())


def test_a_formulation_that_fails_or_gives_other_numbers_is_not_taken(race: type[Racer]) -> None:
    race.costs = {"taps": 1e-4}
    race.wrong = frozenset({"taps"})
    assert weight_choice(Timed(CPU)) == "images"
    race.wrong, race.broken = frozenset(), frozenset({"taps"})
    assert weight_choice(Timed(CPU)) == "images"
    race.broken = frozenset({"images"})  # the rules' one: where it is used it will say why
    assert weight_choice(Timed(CPU)) == "images"


def test_each_kind_is_measured_once_and_told(race: type[Racer]) -> None:
    told: list[tuple[int, int]] = []
    tuner = Timed(CPU, told=lambda *numbers: told.append(numbers))
    graph, target = sample(), cpu_blocked(16)
    tuner(graph, target)
    count = len(close_ones(graph, target))
    assert told == [(done, count) for done in range(1, count + 1)]
    assert set(tuner.operators) == set(close_ones(graph, target))
    ran = Racer.runs
    again = Timed(CPU, tuner.operators)
    assert names(again(graph, target)) == names(tuner(graph, target))
    assert Racer.runs == ran
    assert again.operators == tuner.operators


def test_the_time_is_bounded(race: type[Racer]) -> None:
    race.costs = dict.fromkeys(("images", "products", "channels", "blocked", "taps"), 0.01)
    graph, target = sample(), cpu_blocked(16)
    tuner = Timed(CPU, seconds=0.5)
    tuner(graph, target)
    assert tuner.operators
    assert tuner.left
    assert len(tuner.operators) + len(tuner.left) == len(close_ones(graph, target))
    assert race.clock.now <= 0.5 + 0.2
    hurried = Timed(CPU, seconds=0)
    assert names(hurried(graph, target)) == names(plan(graph, target))
    assert not hurried.operators


def test_on_this_machine() -> None:
    """Nothing faked: every candidate runs alone, agrees, and what is chosen is one of them."""
    graph, target = sample(), target_for(CPU)
    tuner = Tuner(CPU)
    tuner(graph, target)
    close = close_ones(graph, target)
    for called, times in tuner.operators.items():
        assert times.chosen in times.ms
        if called in close:  # what is chosen before may change the form of an input
            assert set(times.ms) == set(close[called])


def sound(here: Circumstances = HERE) -> Tuned:
    measured = Measured(chosen="taps", rules="images", ms={"taps": 1.0, "images": 2.0})
    return Tuned(circumstances=here, operators={"some key: images|taps": measured})


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    said: list[str] = []
    tuned.write(tmp_path, sound())
    assert tuned.still_true(tmp_path, HERE, said.append) == sound()
    assert tuned.kept(tmp_path, HERE, said.append).names == {"some key: images|taps": "taps"}
    assert said == []


def test_a_run_that_was_not_tuned_goes_by_the_rules(tmp_path: Path) -> None:
    said: list[str] = []
    assert tuned.still_true(tmp_path, HERE, said.append) is None
    assert tuned.kept(tmp_path, HERE, said.append) == BY_RULES
    assert said == []


DAMAGES = {
    "cut": lambda text: text[: len(text) // 2],
    "empty": lambda _: "",
    "version": lambda text: text.replace('"version": 1', '"version": 2'),
    "unknown": lambda text: text.replace('"version"', '"more": 1, "version"'),
    "chosen": lambda text: text.replace('"chosen": "taps"', '"chosen": "nix"'),
    "number": lambda text: text.replace("2.0", "1e999"),
    "type": lambda text: text.replace('"taps",', "3,"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_in_one_line(damage: str, tmp_path: Path) -> None:
    tuned.write(tmp_path, sound())
    file = tmp_path / FILE
    file.write_text(DAMAGES[damage](file.read_text()))
    for read, then in ((tuned.still_true, "; measured anew"), (tuned.kept, " round so")):
        said: list[str] = []
        assert read(tmp_path, HERE, said.append) in (None, BY_RULES)
        (line,) = said
        assert line.startswith(f"{file}: ")
        assert line.endswith(then)
        assert "\n" not in line


@pytest.mark.parametrize(("change", "differ"), [
    ({"processor": "Q"}, "processor P, here Q"), ({"threads": 4}, "threads 2, here 4"),
    ({"netspec": "9", "onnxruntime": "8"}, "netspec 1, here 9, onnxruntime 2, here 8"),
])  # fmt: skip
def test_other_circumstances(change: dict[str, Any], differ: str, tmp_path: Path) -> None:
    """A new measurement is not built on them; a run that goes on keeps its numbers."""
    tuned.write(tmp_path, sound())
    there = HERE.model_copy(update=change)
    said: list[str] = []
    assert tuned.still_true(tmp_path, there, said.append) is None
    assert tuned.kept(tmp_path, there, said.append) == sound().choices
    assert all(f"was measured with {differ}" in line for line in said)
    assert len(said) == 2


SPEC = """
name: "Tuned"
data "train" { source: "mnist"  batch_size: 32  transform { scale: 1/255 } }
input "data" { shape: 1x28x28 }
conv { num_output: 16  kernel_size: 5  stride: 2 }
relu
conv { num_output: 16  kernel_size: 3 }
relu
fc "score" { num_output: 10 }
softmax_loss
solver { type: SGD  base_lr: 0.05  momentum: 0.9  max_iter: 12 }
"""


class Told(Listener):
    def __init__(self, stop_at: int = 0) -> None:
        self.stop_at = stop_at
        self.warnings: list[str] = []
        self.results: list[tuple[int, int, int]] = []

    def progressed(self, iteration: int, loss: float, rate: float) -> None:
        if iteration == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    def warned(self, message: str) -> None:
        self.warnings.append(message)

    def tuned(self, measured: int, changed: int, left: int) -> None:
        self.results.append((measured, changed, left))


@pytest.fixture
def train(tmp_path: Path) -> partial[Any]:
    file = tmp_path / "tuned.net"
    file.write_text(SPEC)
    return partial(netspec.train, netspec.read(str(file)), runs=tmp_path / "runs", device="cpu")


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_resumed_run_keeps_its_choices(
    train: partial[Any], race: type[Racer], tmp_path: Path
) -> None:
    race.costs = {"taps": 1e-4, "transposed": 1e-4}
    told = Told()
    whole = train(autotune=True, listener=told).run
    ((measured, changed, left),) = told.results
    assert len(json.loads((whole / FILE).read_text())["operators"]) == measured
    assert left == 0
    with pytest.raises(Stopped):
        train(autotune=True, listener=Told(stop_at=5))
    told = Told()
    parts = train(resume=True, listener=told).run
    assert parts != whole
    assert (told.warnings, told.results) == ([], [])
    weights = "weights.safetensors"
    assert (parts / weights).read_bytes() == (whole / weights).read_bytes()
    if target_for(CPU).block:
        assert changed == measured > 0
        untuned = train().run
        assert not (untuned / FILE).exists()
        assert (untuned / weights).read_bytes() != (whole / weights).read_bytes()


def test_a_resumed_run_is_measured_anew_only_if_asked_to(
    train: partial[Any], race: type[Racer]
) -> None:
    run = train(autotune=True).run
    good = (run / FILE).read_text()
    ran = Racer.runs
    train(resume=True, autotune=True)
    assert Racer.runs == ran

    (run / FILE).write_text(good.replace('"threads"', '"threats"'))
    told = Told()
    train(resume=True, listener=told)
    assert len(told.warnings) == 1
    assert (run / FILE).read_text() != good
    told = Told()
    train(resume=True, autotune=True, listener=told)
    damaged, changing = told.warnings
    assert damaged.endswith("; measured anew")
    assert "round otherwise" in changing
    assert len(told.results) == 1
    assert json.loads((run / FILE).read_text())["operators"].keys() == (
        json.loads(good)["operators"].keys()
    )


def test_an_interrupt_leaves_no_trace(
    train: partial[Any], race: type[Racer], tmp_path: Path
) -> None:
    class Interrupting(Listener):
        def tuning(self, done: int, total: int) -> None:
            raise KeyboardInterrupt

    if target_for(CPU).block:
        with pytest.raises(KeyboardInterrupt):
            train(autotune=True, listener=Interrupting())
        assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "huge"])
def test_what_is_no_file_of_ours_is_not_waited_for(kind: str, tmp_path: Path) -> None:
    file, said = tmp_path / FILE, list[str]()
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "device":
        file.symlink_to("/dev/zero")
    else:
        with file.open("wb") as sparse:
            sparse.truncate(2**30)
    assert tuned.still_true(tmp_path, HERE, said.append) is None
    (line,) = said
    assert "cannot be read: is " in line
