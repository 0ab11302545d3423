"""A training step recorded as CUDA graphs: state as if it had run once, replays without copies."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any, cast

import numpy as np
import onnx
import pytest

from netspec.codegen.builder import Builder
from netspec.codegen.recordable import unrecordable
from netspec.codegen.update import UpdateStep
from netspec.ir.graph import Graph
from netspec.ir.types import TensorType
from netspec.runtime.device import Device
from netspec.runtime.session import OutOfMemory
from netspec.runtime.state import Binding, Memory
from netspec.training.execution import recorded
from netspec.training.execution.capture import Captured
from netspec.training.execution.recorded import Checked

HERE = Path(__file__).parent


class Recording:
    """As onnxruntime does it: the first run of a thread executes three times."""

    def __init__(self, memory: Memory) -> None:
        self.memory, self.runs = memory, 0

    def run(self) -> None:
        times = 3 if self.runs == 0 else 1
        self.memory.write(self.memory.read() + times)
        self.runs += 1


def test_recording_is_no_step() -> None:
    memory = Memory(Device("cpu"), np.zeros(3, np.float32))
    captured = Captured(cast(Binding, Recording(memory)), [memory])
    for steps in (1, 2, 3):
        captured.run()
        assert memory.read().tolist() == [steps] * 3


def test_another_thread_would_record_anew() -> None:
    memory = Memory(Device("cpu"), np.zeros(3, np.float32))
    captured = Captured(cast(Binding, Recording(memory)), [memory])
    captured.run()
    caught: list[BaseException] = []

    def run() -> None:
        try:
            captured.run()
        except AssertionError as fault:
            caught.append(fault)

    thread = Thread(target=run)
    thread.start()
    thread.join()
    assert "thread" in str(caught[0])


class Replaying:
    """A training of one number, recorded; `replay` says what a replay makes of it."""

    def __init__(self, memory: Memory, replay: Callable[[float], float]) -> None:
        self.memory, self.replay = memory, replay
        self.calls: list[str] = []

    def _to(self, made: Callable[[float], float]) -> None:
        self.memory.write(np.array([made(float(self.memory.read()[0]))], np.float32))

    def run(self) -> None:
        first = "run" not in self.calls
        self.calls.append("run")
        for step in (trained, trained, self.replay) if first else (self.replay,):
            self._to(step)

    def run_plainly(self) -> None:
        self.calls.append("plain")
        self._to(trained)


def trained(number: float) -> float:
    return number * 2 + 1


def checked(replay: Callable[[float], float], steps: int) -> tuple[list[float], list[str], Any]:
    """The number after each step, the warnings, and how it was run."""
    memory = Memory(Device("cpu"), np.zeros(1, np.float32))
    binding, warnings = Replaying(memory, replay), list[str]()
    graph = Graph("update", (), (), ())
    runner = Checked(binding, [memory], graph, warnings.append)
    numbers = []
    for _ in range(steps):
        runner.run()
        numbers.append(float(memory.read()[0]))
    return numbers, warnings, binding.calls


RIGHT = [1.0, 3.0, 7.0, 15.0, 31.0]


def test_right_replays_are_all_that_runs_after_three_steps() -> None:
    numbers, warnings, calls = checked(trained, 5)
    assert numbers == RIGHT
    assert not warnings
    assert calls[-2:] == ["run", "run"]
    assert calls.count("plain") == 6


@pytest.mark.parametrize("wrong", [lambda n: n, lambda n: n * 2 + 1.001, lambda _: float("nan")])
def test_wrong_replays_are_given_up(wrong: Callable[[float], float]) -> None:
    numbers, warnings, calls = checked(wrong, 5)
    assert numbers == RIGHT
    (said,) = warnings
    assert said.startswith("CUDA graphs are left out for `update`: a replay is off by ")
    assert calls[-2:] == ["plain", "plain"]
    assert calls.count("run") == 2


def test_a_replay_may_differ_as_plain_runs_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums by atomics come in another order each time."""
    noise = iter(np.random.default_rng(0).uniform(-1e-4, 1e-4, 99))
    monkeypatch.setitem(globals(), "trained", lambda n: (n * 2 + 1) * (1 + next(noise)))
    _, warnings, _ = checked(lambda n: n * 2 + 1, 5)
    assert not warnings


def loading(
    monkeypatch: pytest.MonkeyPatch, graph: Graph, fault: Exception | None = None
) -> tuple[Any, list[bool], list[str]]:
    """What is loaded on a device that checks, with which settings, and what is warned of."""
    asked, warnings = list[bool](), list[str]()

    def session(_: onnx.ModelProto, device: Device) -> None:
        asked.append(device.graphs)
        if fault is not None and device.graphs:
            raise fault

    monkeypatch.setattr(recorded, "make_session", session)
    monkeypatch.setattr(recorded, "Binding", lambda *_: object())
    step = UpdateStep(graph, {}, {})
    device = Device("cuda", graphs=True, checked=True)
    return recorded.loaded(step, device, {}, [], warn=warnings.append), asked, warnings


def summed(*, drawn: bool = False) -> Graph:
    op = Builder()
    x = op.input("x", TensorType((2, 3)))
    y = op.RandomUniform(shape=(2, 3)) if drawn else x
    return op.graph([op.Add(x, y)], name="sums")


def test_a_graph_that_can_be_recorded_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    runner, asked, warnings = loading(monkeypatch, summed())
    assert isinstance(runner, Checked)
    assert (asked, warnings) == ([True], [])


def test_a_graph_that_would_repeat_its_lots_is_not_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runner, asked, warnings = loading(monkeypatch, summed(drawn=True))
    assert not isinstance(runner, Checked)
    assert asked == [False]
    assert warnings == [
        "CUDA graphs are left out for `sums`: RandomUniform: a replay would draw the same numbers"
    ]


def test_what_onnxruntime_does_not_record_runs_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    fault = RuntimeError("a node is on the CPU\nand more")
    _, asked, warnings = loading(monkeypatch, summed(), fault)
    assert asked == [True, False]
    assert warnings == ["CUDA graphs are left out for `sums`: a node is on the CPU"]
    with pytest.raises(OutOfMemory):
        loading(monkeypatch, summed(), OutOfMemory("bad_alloc"))


def test_operands_of_the_host_are_found() -> None:
    op = Builder()
    x = op.input("x", TensorType((2, 6)))
    parts = op.Split(x, op.ints(2, 4), outputs=2, axis=1)
    op.Clip(x, op.input("low", TensorType(())))
    graph = op.graph([*parts], name="host")
    assert [why.partition(": ")[2] for why in unrecordable(graph)] == [
        "unequal parts are listed on the host",
        "the host reads input 1, which is made on the device",
    ]


def test_graphs_are_asked_for() -> None:
    (_, off), (_, on) = (Device("cuda", graphs=g).providers[0] for g in (False, True))
    assert (off["enable_cuda_graph"], on["enable_cuda_graph"]) == ("0", "1")


def traced(
    stand_ins: Path, spec: str, mode: str, precision: str = "FP32"
) -> dict[str, Counter[str]]:
    """What the libraries were called for in each part of a short training."""
    said = subprocess.run(
        [sys.executable, HERE / "step_without_cudnn.py", spec, mode, precision],
        env={**os.environ, "LD_LIBRARY_PATH": str(stand_ins), "FAKE_TRACE": "1"},
        capture_output=True,
        text=True,
    )
    assert said.returncode == 0, "\n".join(
        line for line in said.stderr.splitlines() if not line.startswith("[cuda]")
    )
    calls: dict[str, Counter[str]] = {}
    for line in said.stderr.splitlines():
        if line.startswith("=== "):
            part = calls.setdefault(line[4:], Counter())
        elif line.startswith("[cuda] ") and calls:
            call = re.sub(r" (->|<-|stream=|grid=|flags=|mode=|launches=|0x|\(nil).*", "", line[7:])
            call = re.sub(r" \d+.*", "", call)
            part[call] += 1
            part["DURING CAPTURE"] += "DURING CAPTURE" in line
    return calls


@pytest.mark.parametrize("spec", ["lenet", "googlenet", "resnet20"])
def test_a_step_makes_no_copies_of_its_own(spec: str, stand_ins: Path) -> None:
    """Between device and host go indices, masks and scalars, written and read by ourselves."""
    calls = traced(stand_ins, spec, "eager")
    assert calls["step 1"]["launch"] > 20
    for step in ("step 1", "step 2", "step 3"):
        assert not calls[step]["memcpyAsync kind=1"], "a kernel copies from the host"
        assert not calls[step]["memcpyAsync kind=2"], "a kernel copies to the host"
        assert not calls[step]["malloc"], "the first step's memory did not suffice"


@pytest.mark.parametrize("spec", ["lenet", "resnet20"])
def test_half_precision_makes_no_copies_and_is_recorded(spec: str, stand_ins: Path) -> None:
    """The loss's scale is two graphs more, and stays on the device."""
    eager = traced(stand_ins, spec, "eager", "FP16")
    assert not eager["step 2"]["memcpyAsync kind=1"] + eager["step 2"]["memcpyAsync kind=2"]
    graphs = traced(stand_ins, spec, "graphs", "FP16")
    assert graphs["step 0"]["BEGIN CAPTURE"] == 4
    assert graphs["step 3"]["GRAPH LAUNCH"] == 4
    assert not graphs["step 3"]["launch"] + graphs["step 3"]["malloc"]


@pytest.mark.parametrize("spec", ["lenet", "resnet20"])
def test_a_checked_step_is_recorded_after_three(spec: str, stand_ins: Path) -> None:
    """Kernels that do nothing leave what they found, so that plain runs and replays agree."""
    calls = traced(stand_ins, spec, "checked")
    for step in ("step 0", "step 1", "step 2"):
        assert calls[step]["launch"] > 20
        assert calls[step]["GRAPH LAUNCH"] >= 2
    assert calls["step 3"]["GRAPH LAUNCH"] == 2
    assert not calls["step 3"]["launch"] + calls["step 3"]["malloc"]


@pytest.mark.parametrize("spec", ["lenet", "googlenet", "resnet20"])
def test_a_recorded_step_is_two_launches(spec: str, stand_ins: Path) -> None:
    calls = traced(stand_ins, spec, "graphs")
    first = calls["step 0"]
    assert (first["BEGIN CAPTURE"], first["END CAPTURE"]) == (2, 2), first
    assert first["GRAPH LAUNCH"] == 3  # the batch's once, the update's to record and to step
    assert not first["DURING CAPTURE"]
    assert not first["memcpyAsync kind=1"], "a replay would copy from memory given back"
    for step in ("step 1", "step 2", "step 3"):
        assert calls[step]["GRAPH LAUNCH"] == 2
        assert not calls[step]["launch"] + calls[step]["malloc"]
