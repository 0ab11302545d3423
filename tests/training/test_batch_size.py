"""The batch that memory holds, and what is said where it holds none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netspec.compiler import read
from netspec.diagnostics import NetspecError
from netspec.runtime import free as free_module
from netspec.runtime.device import Device
from netspec.runtime.free import free_memory
from netspec.runtime.session import OutOfMemory, translated_errors
from netspec.training import ready
from netspec.training.batch_size import chosen_batch, training_bytes
from netspec.training.execution import executor as executor_module
from netspec.training.execution.machine import Machine, find_machine
from netspec.training.launch import train
from netspec.training.listener import Listener
from netspec.training.setup.experiment import Experiment, prepare

NET = """
data "train" { source: "samples.npz"  batch_size: 4 }
input "data" { shape: 3x8x8 }
conv { num_output: 16  kernel_size: 3 }
relu
fc { num_output: 3 }
softmax_loss
solver { base_lr: 0.1  max_iter: 2 }
"""
MIB = 2**20
ARENA = (
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : bfc_arena.cc:376 AllocateRawInternal Failed to "
    "allocate memory for requested buffer of size 3221225472"
)


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    np.savez(
        tmp_path / "samples.npz",
        data=np.zeros((2048, 3, 8, 8), np.uint8),
        label=np.arange(2048) % 3,
    )
    (tmp_path / "net.net").write_text(NET)
    return prepare(read(str(tmp_path / "net.net")))


@pytest.fixture
def machine() -> Machine:
    return find_machine("cpu")


def test_an_epoch_keeps_its_updates(experiment: Experiment, machine: Machine) -> None:
    choice = chosen_batch(experiment, machine, 10**12)
    assert choice.batch == 64
    assert "128 would leave an epoch of 2,048 samples fewer than 32 updates" in choice.why
    solver = experiment.solver.model_copy(update={"iter_size": 4})
    assert chosen_batch(replace(experiment, solver=solver), machine, 10**12).batch == 16
    solver = experiment.solver.model_copy(update={"iter_size": 16})
    choice = chosen_batch(replace(experiment, solver=solver), machine, 10**12)
    assert choice.batch == 8
    said = "an epoch of 2,048 samples has 16 updates, which are few already"
    assert choice.why.endswith(f"; {said}")


def test_a_batch_fits_into_what_is_free(experiment: Experiment, machine: Machine) -> None:
    needed = {n: training_bytes(experiment, machine, n) for n in (1, 8, 16)}
    assert needed[1] < needed[8] < needed[16]
    free = int((needed[8] + needed[16]) / 2 / 0.8)
    choice = chosen_batch(experiment, machine, free)
    assert choice.batch == 8
    assert "80% of what is free; 16 would take " in choice.why
    assert chosen_batch(experiment, machine, int(needed[8] / 0.8) + 1).batch == 8
    assert chosen_batch(experiment, machine, int(needed[8] / 0.8) - 1).batch == 4
    with pytest.raises(NetspecError, match="not even a batch of 1 fits: training takes "):
        chosen_batch(experiment, machine, int(needed[1] / 0.8) - 8)
    with pytest.raises(NetspecError, match="does not tell its free memory: give --batch a number"):
        chosen_batch(experiment, machine, None)


def test_data_on_a_device_of_their_own_count(experiment: Experiment, machine: Machine) -> None:
    data = sum(array.nbytes for array in experiment.train.fed.values())
    needed = training_bytes(experiment, machine, 8)
    there = replace(machine, device=Device("cuda"))
    free = int((needed + data) / 0.8) + 2
    assert chosen_batch(experiment, there, free).batch == 8
    assert chosen_batch(experiment, there, free - 3000).batch == 4


class Notes(Listener):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def warned(self, message: str) -> None:
        self.warnings.append(message)

    def noted(self, message: str) -> None:
        self.notes.append(message)


def test_an_automatic_batch_stays_with_the_run(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Notes()
    spec = read(str(tmp_path / "net.net"))
    there: dict[str, Any] = {"runs": tmp_path / "runs", "device": "cpu", "listener": notes}
    run = train(spec, batch="auto", **there).run
    (note,) = notes.notes
    assert note.startswith("batch 64: training takes ")
    assert "batch_size: 64" in (run / "spec.net").read_text()
    monkeypatch.setattr(ready, "free_memory", lambda _: 1)
    assert not notes.warnings
    assert train(spec, batch="auto", resume=True, **there).ran == 0
    (warning,) = notes.warnings
    assert warning.startswith("training takes some ")
    assert warning.endswith(
        "in batches of 64, and 1 B of memory are free: --batch auto takes what fits"
    )
    assert train(spec, resume=True, **there).ran == 0


@pytest.mark.parametrize(
    ("fault", "asked"),
    [
        (RuntimeError(ARENA), " (3.00 GiB were asked for)"),
        (RuntimeError("std::bad_alloc"), ""),
        (MemoryError("Unable to allocate 4.0 GiB for an array"), ""),
    ],
)
def test_who_runs_out_of_memory_hears_what_fits(
    experiment: Experiment,
    machine: Machine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Exception,
    asked: str,
) -> None:
    def fail(*_: Any) -> None:
        with translated_errors():
            raise fault

    free = int(training_bytes(experiment, machine, 2) / 0.8) + 100
    monkeypatch.setattr(ready, "free_memory", lambda _: free)
    monkeypatch.setattr(executor_module.BoundBatch, "run", fail)
    with pytest.raises(NetspecError) as caught:
        train(experiment.spec, runs=tmp_path / "runs", device="cpu")
    said = str(caught.value)
    assert said.startswith(f"the cpu's memory does not hold a training step of 4 samples{asked}; ")
    assert said.endswith(" were free: --batch 2 should fit")
    monkeypatch.setattr(ready, "free_memory", lambda _: 1000)
    with pytest.raises(NetspecError, match="not even one sample fits: --recompute all takes less"):
        train(experiment.spec, runs=tmp_path / "runs", device="cpu")
    monkeypatch.setattr(ready, "free_memory", lambda _: None)
    with pytest.raises(NetspecError, match="by our count: --batch 2 may fit"):
        train(experiment.spec, runs=tmp_path / "runs", device="cpu")


def test_other_faults_pass() -> None:
    with pytest.raises(RuntimeError, match="broken"), translated_errors():
        raise RuntimeError("broken")
    with pytest.raises(OutOfMemory) as caught, translated_errors():
        raise RuntimeError(ARENA)
    assert caught.value.wanted == 3 * 2**30


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(free_module, "_CGROUP", tmp_path)
    monkeypatch.setattr(free_module, "_below_limit", lambda: None)
    return tmp_path


def test_what_the_system_says_is_free(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(free_module, "_available", lambda: 500 * MIB)
    cpu = Device("cpu")
    assert free_memory(cpu) == 500 * MIB
    (system / "memory.max").write_text("max\n")
    (system / "memory.current").write_text(f"{300 * MIB}\n")
    assert free_memory(cpu) == 500 * MIB
    (system / "memory.max").write_text(f"{400 * MIB}\n")
    assert free_memory(cpu) == 100 * MIB
    (system / "memory.stat").write_text(f"anon 5\ninactive_file {50 * MIB}\n")
    assert free_memory(cpu) == 150 * MIB
    monkeypatch.setattr(free_module, "_below_limit", lambda: -5)
    assert free_memory(cpu) == 0
    for name in ("_available", "_in_group", "_below_limit"):
        monkeypatch.setattr(free_module, name, lambda: None)
    assert free_memory(cpu) is None


def test_this_machine_says_something() -> None:
    free = free_memory(Device("cpu"))
    assert free is None or free > MIB
    no_such = free_memory(Device("cuda", index=99))
    assert no_such is None
