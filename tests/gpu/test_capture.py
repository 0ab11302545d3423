"""A training step recorded as CUDA graphs: state as if it had run once, replays without copies."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from threading import Thread
from typing import cast

import numpy as np
import pytest

from netspec.runtime.device import Device
from netspec.runtime.state import Binding, Memory
from netspec.training.capture import Captured

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


def test_graphs_are_asked_for() -> None:
    (_, off), (_, on) = (Device("cuda", graphs=g).providers[0] for g in (False, True))
    assert (off["enable_cuda_graph"], on["enable_cuda_graph"]) == ("0", "1")


def traced(stand_ins: Path, spec: str, mode: str) -> dict[str, Counter[str]]:
    """What the libraries were called for in each part of a short training."""
    said = subprocess.run(
        [sys.executable, HERE / "step_without_cudnn.py", spec, mode],
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
