"""Mutated weight files, solver states and mean files raise nothing but DataError, and soon."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("fuzz.py")


def fuzzed(count: int, folder: Path) -> str:
    command = [sys.executable, str(SCRIPT), "--count", str(count), "--keep", str(folder / "kept")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_mutants_raise_nothing_but_data_errors(tmp_path: Path) -> None:
    """3,000 of them; `python tests/caffe/fuzz.py --count 100000` makes more."""
    assert "3,000 mutants, 0 faults" in fuzzed(3_000, tmp_path)


@pytest.mark.slow
def test_many_mutants(tmp_path: Path) -> None:
    assert "100,000 mutants, 0 faults" in fuzzed(100_000, tmp_path)
