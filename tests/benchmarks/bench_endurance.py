"""What LeNet's training holds in memory after 5,000 iterations, beside what it held after 100."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench_memory import resident

from netspec import compiler
from netspec.training.launch import train
from netspec.training.listener import Listener

TESTS = Path(__file__).parents[1]
EARLY, LATE = 100, 5_000
SETS = (
    f"solver.max_iter={LATE}",
    "solver.test_interval=500",
    "solver.snapshot=1000",
    "data.train.transform.rotation=10",
)


def measure() -> Iterator[tuple[str, str]]:
    done = subprocess.run(
        [sys.executable, str(Path(__file__))],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path[:3]))},
        text=True,
    )
    for line in done.stdout.splitlines():
        iterations, kibibytes = map(int, line.split())
        yield f"resident after {iterations} iterations", f"{kibibytes / 1024:.1f} MiB"


class Held(Listener):
    """Prints what is resident now and then: tests, checkpoints and reports come in between."""

    def progressed(self, iteration: int, loss: float, rate: float) -> None:
        if iteration == EARLY or iteration % (LATE // 5) == 0:
            print(iteration, resident("VmRSS"), flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as runs:
        train(compiler.read("lenet", sets=SETS), runs=runs, listener=Held())
