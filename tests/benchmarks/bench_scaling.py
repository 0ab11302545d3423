"""`python tests/benchmarks/bench_scaling.py`: what `netspec check` takes for nets of many layers.

A whole process each time, processor time of user and system; the slope is how much longer twice the
layers take (2.0 is linear).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
FORMS: dict[str, Callable[[int], str]] = {
    "chain": lambda n: "".join(
        f'conv "c{i}" {{ num_output: 8  kernel_size: 3  pad: 1 }}\nrelu\n' for i in range(n // 2)
    ),
    "blocks": lambda n: (
        "block cr() { conv { num_output: 8  kernel_size: 3  pad: 1 } relu }\n"
        f"repeat {n // 2} {{ cr() }}\n"
    ),
    "residuals": lambda n: f"repeat {n // 3} {{ residual {{ relu relu }} }}\n",
    "bottoms": lambda n: "".join(f'relu "r{i}" {{ bottom: "r{i - 1}" }}\n' for i in range(1, n)),
}
HEAD = 'input "data" { shape: 8x8x8 }\nrelu "r0"\n'
TAIL = 'fc "out" { num_output: 10 }\nsoftmax_loss\naccuracy\n'


def check(text: str, *options: str) -> tuple[float, float]:
    """Seconds of wall and of processor time of one `netspec check`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "generated.net"
        path.write_text(HEAD + text + TAIL)
        return taken("-m", "netspec", "check", str(path), *options)


def taken(*arguments: str) -> tuple[float, float]:
    """Seconds of wall and of processor time of one process of Python."""
    before, begin = os.times(), time.monotonic()
    subprocess.run(
        [sys.executable, *arguments],
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    after, end = os.times(), time.monotonic()
    used = after.children_user + after.children_system
    return end - begin, used - before.children_user - before.children_system


def main() -> int:
    """Print the table; 1 if a net of 10,000 layers takes more than 20 s."""
    slow = False
    print(f"{'net':<11}{'report':<8}{'5,000':>9}{'10,000':>9}{'slope':>8}   wall seconds at 10,000")
    for name, form in FORMS.items():
        for report in ("table", "json"):
            options = ("--json",) if report == "json" else ()
            (_, half), (wall, whole) = (check(form(n), *options) for n in (5_000, 10_000))
            slow |= wall > 20
            print(
                f"{name:<11}{report:<8}{half:>8.2f}s{whole:>8.2f}s{whole / half:>8.2f}{wall:>9.2f}"
            )
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
