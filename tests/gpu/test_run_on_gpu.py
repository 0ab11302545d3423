"""`run_on_gpu.py` itself: its checks run on the CPU, and it says when there is no GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from netspec.runtime.device import cuda_fault

SCRIPT = Path(__file__).with_name("run_on_gpu.py")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True)


def test_its_checks_hold_on_the_cpu() -> None:
    said = run("--dry-run", "--small")
    table = said.stdout.splitlines()
    assert said.returncode == 0, said.stdout + said.stderr
    assert len(table) == 13
    assert all(line.startswith("ok ") for line in table)


def test_without_a_gpu_it_says_so_in_a_line() -> None:
    if cuda_fault() is None:
        pytest.skip("CUDA works here")
    said = run()
    assert said.returncode == 2
    (line,) = said.stdout.splitlines()
    assert line.startswith("no GPU: ")


def test_a_check_that_fails_is_told() -> None:
    fine, said = json.loads(run("--dry-run", "--check", "no such check").stdout)
    assert not fine
    assert said.startswith("KeyError")
