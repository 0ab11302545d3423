"""Device, target and threads: what is asked for, what is found, what the user is told."""

from __future__ import annotations

import onnxruntime as ort
import pytest

from netspec.codegen.target import CPU_PLAIN
from netspec.diagnostics import UsageError
from netspec.runtime.device import Device, cores
from netspec.runtime.session import session_options
from netspec.training.execution import machine as module
from netspec.training.execution.machine import find_machine
from netspec.training.execution.targets import Found, find_target


def test_the_devices_fastest_target_unless_another_is_asked_for() -> None:
    assert find_machine("cpu").target == find_target("cpu").target
    assert find_machine("cpu", target="cpu-plain").target is CPU_PLAIN


def test_a_target_brings_its_device() -> None:
    assert find_machine("auto", target="cpu-plain").device.kind == "cpu"


def test_a_target_of_another_device() -> None:
    with pytest.raises(UsageError, match="target cuda does not run on device cpu"):
        find_machine("cpu", target="cuda")


def test_threads_are_onnxruntimes() -> None:
    assert session_options(find_machine("cpu", threads=1).device).intra_op_num_threads == 1
    default = ort.SessionOptions().intra_op_num_threads
    assert session_options(find_machine("cpu").device).intra_op_num_threads == default


def test_more_threads_than_cores() -> None:
    told: list[str] = []
    found = find_machine("cpu", threads=cores() + 7, warn=told.append)
    assert found.device.threads == cores()
    (line,) = told
    assert line.startswith(f"{cores() + 7} threads, but this process may use {cores()} cores")


def test_threads_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    found = find_machine(Device("cuda"), threads=1, warn=told.append)
    assert found.device.threads == 0
    assert told == ["threads are the CPU's: on cuda they are left out"]


def test_what_the_target_has_to_say_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(module, "find_target", lambda _: Found(CPU_PLAIN, "no blocks here"))
    assert find_machine("cpu", warn=told.append).target is CPU_PLAIN
    assert told == ["no blocks here"]


def test_what_is_cudas_is_left_out_elsewhere() -> None:
    told: list[str] = []
    found = find_machine("cpu", tf32=False, graphs=True, warn=told.append)
    assert found.device == Device("cpu")
    assert told == ["CUDA graphs are CUDA's: on cpu they are left out"]
    found = find_machine(Device("cuda"), tf32=False, graphs=True)
    assert (found.device.tf32, found.device.graphs) == (False, True)
