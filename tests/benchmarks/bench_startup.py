"""Whole processes from start to end, beside one that only imports the libraries."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROUNDS = 11
ROOT = Path(__file__).parents[2]
COMMANDS = {
    "python -c 'import onnx, pydantic, lark'": ["-c", "import onnx, pydantic, lark"],
    "netspec check specs/resnet18.net": ["-m", "netspec", "check", "specs/resnet18.net"],
    "netspec --help": ["-m", "netspec", "--help"],
}


def measure() -> Iterator[tuple[str, str]]:
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for round in range(ROUNDS + 1):
        for name, arguments in COMMANDS.items():
            seconds = run(arguments)
            if round:  # the first one reads the disk
                times[name].append(seconds)
    base = statistics.median(next(iter(times.values())))
    for name, taken in times.items():
        middle = statistics.median(taken)
        yield name, f"{middle:.3f} s (least {min(taken):.3f}), {middle / base:.2f} of the first"


def run(arguments: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments],
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - started
