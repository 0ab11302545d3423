"""Which target is found, and what is said where the blocked layout is not what it should be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from netspec.codegen.target import CPU_PLAIN, CUDA, Target
from netspec.diagnostics import UsageError
from netspec.runtime.device import Device
from netspec.training.execution import targets
from netspec.training.execution.targets import find_target, target_for


@pytest.fixture(autouse=True)
def afresh() -> Iterator[None]:
    """Nothing that an earlier test has found."""
    targets._blocked.cache_clear()
    yield
    targets._blocked.cache_clear()


def test_names() -> None:
    assert find_target("cpu-plain").target is CPU_PLAIN
    assert find_target("cuda").target is CUDA
    assert target_for(Device("cuda")) is CUDA
    assert find_target("cpu").target.kind == "cpu"


def test_a_target_that_is_not_there() -> None:
    with pytest.raises(
        UsageError, match=r"no target `cpu-plan`; did you mean `cpu-plain`\?: cpu, "
    ):
        find_target("cpu-plan")


def spoil(monkeypatch: pytest.MonkeyPatch, blocked: Any) -> None:
    run = targets._run
    monkeypatch.setattr(targets, "_run", lambda t: blocked(t) if t.block else run(t))


def test_an_onnxruntime_without_the_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: Target) -> Any:
        raise RuntimeError("com.microsoft.nchwc:Conv(-1) is not a registered function/op\nat …")

    spoil(monkeypatch, missing)
    found = find_target("cpu")
    assert found.target is CPU_PLAIN
    assert found.note is not None
    assert "does not run its blocked layout here: com.microsoft.nchwc:Conv(-1) is not" in found.note
    assert "\n" not in found.note


def test_an_onnxruntime_whose_domain_means_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    run = targets._run

    def other(target: Target) -> Any:
        return {name: np.flip(array) for name, array in run(CPU_PLAIN).items()}

    spoil(monkeypatch, other)
    found = find_target("cpu")
    assert found.target is CPU_PLAIN
    assert found.note is not None
    assert "it gives other numbers" in found.note


def test_numbers_that_are_none_are_not_close() -> None:
    number = np.ones(3, np.float32)
    assert targets._close(number, number)
    assert not targets._close(np.full(3, np.nan, np.float32), number)


def test_the_other_block_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def only_eight(target: Target) -> Any:
        tried.append(target.block)
        if target.block == 16:
            raise RuntimeError("Input channels must match the NCHWc block-aligned channel count.")
        return targets_run(CPU_PLAIN)

    targets_run = targets._run
    spoil(monkeypatch, only_eight)
    found = find_target("cpu")
    assert (tried, found.target.block, found.note) == ([16, 8], 8, None)
