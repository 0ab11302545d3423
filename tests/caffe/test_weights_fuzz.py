"""Mutated weight files, solver states and mean files raise nothing but DataError, and soon."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("fuzz.py")


def fuzzed(count: int, folder: Path) -> str:
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-W", "error", str(SCRIPT), "--count", str(count)]
    done = subprocess.run(
        [*command, "--keep", str(folder / "kept")],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_mutants_raise_nothing_but_data_errors(tmp_path: Path) -> None:
    """3,000 of them; `python tests/caffe/fuzz.py --count 100000` makes more."""
    assert "3,000 mutants, 0 faults" in fuzzed(3_000, tmp_path)


@pytest.mark.slow
def test_many_mutants(tmp_path: Path) -> None:
    assert "100,000 mutants, 0 faults" in fuzzed(100_000, tmp_path)
