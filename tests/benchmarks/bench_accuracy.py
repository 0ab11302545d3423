"""What LeNet learns: the bundled digits, three seeds on the whole of MNIST, and augmented."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
MNIST = ROOT.parent / "shared" / "data" / "mnist"
SEEDS = (1, 2, 3)
MOVES = ("rotation=10", "translation=2", "zoom=1.1", "shear=5")
LONG = 12_000
"""Iterations, of 64 images each."""


def measure() -> Iterator[tuple[str, str]]:
    accuracy, said = train()
    yield "bundled digits", f"{accuracy:.2%} {said} (wanted: 97.5 % in 60 s)"
    if not MNIST.is_dir():
        yield "MNIST", f"skipped: {MNIST} is missing"
        return
    reached = []
    for seed in SEEDS:
        accuracy, said = train("--data", str(MNIST), "--set", f"solver.random_seed={seed}")
        reached.append(accuracy)
        yield f"MNIST, seed {seed}", f"{accuracy:.2%} {said}"
    yield "MNIST, median", f"{statistics.median(reached):.2%} (wanted: 98.9 % in 5 epochs)"
    moved = [word for move in MOVES for word in ("--set", f"data.train.transform.{move}")]
    accuracy, said = train("--data", str(MNIST), *moved, "--set", f"solver.max_iter={LONG}")
    yield "MNIST, augmented", f"{accuracy:.2%} {said} (wanted: 99.2 %)"


def train(*options: str) -> tuple[float, str]:
    """The test accuracy that `netspec train lenet` reaches, and the whole process's time."""
    with tempfile.TemporaryDirectory() as runs:
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "netspec", "train", "lenet", "--json", "--runs", runs, *options],
            check=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        seconds = time.perf_counter() - started
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["event"] == "done"
    said = f"after {last['iterations']} iterations in {seconds:.0f} s"
    return float(last["test"]["accuracy"]), said
