"""What only a GPU can show, in one short table: `python tests/gpu/run_on_gpu.py [--dry-run]`.

From the repository's root, on a machine with onnxruntime-gpu, CUDA and cuDNN; PyTorch with CUDA
for the comparison, if it is there. Every check runs in a process of its own within its share of
five minutes, so that one that fails, crashes or hangs takes no other with it; as many at a time as
the cores carry, but speed is measured alone. Exit code 0: all is well; 1: a check failed; 2: there
is no GPU. `--dry-run` runs the same checks on the CPU, over the operators that CUDA would get, but
for the large nets' speed; `--small` leaves out what takes long; words choose the checks whose names
hold one of them. The table is for stdout; what goes on, and why a check failed, for stderr.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
for folder in (HERE, HERE.parent / "parity", HERE.parent / "benchmarks", ROOT):
    sys.path.insert(0, str(folder))

import against_cpu as numbers  # noqa: E402
import whole_trainings as trainings  # noqa: E402
from against_cpu import DRY, SMALL  # noqa: E402
from speeds import SPEEDS, speed  # noqa: E402

from netspec.runtime.device import cores, cuda_fault  # noqa: E402

TOTAL = 290
"""Seconds, for everything."""


def versions() -> str:
    """Who takes part."""
    import onnxruntime as ort

    found = [f"onnxruntime {ort.__version__}"]
    for package in ("nvidia-cudnn-cu13", "torch"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"no {package}")
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=10)
        found.append(said.stdout.strip().splitlines()[0])
    except (OSError, IndexError, subprocess.TimeoutExpired):
        found.append("no nvidia-smi")
    return ", ".join(found)


_PARTS = 3
"""Of the specs, so that no check is much longer than the others."""
CHECKS: dict[str, tuple[Callable[[], str], int]] = {
    "versions": (versions, 20),
    **{
        f"placement {i + 1}/{_PARTS}": (lambda i=i: numbers.placement(i, _PARTS), 150)
        for i in range(_PARTS)
    },
    "families": (numbers.families, 60),
    "families, half": (lambda: numbers.families(half=True), 60),
    "augmentation": (numbers.augmentation, 60),
    "solvers": (numbers.solvers, 60),
    "lenet, a step": (numbers.lenet_step, 30),
    "lenet, 20 steps": (numbers.lenet_20_steps, 30),
    "lenet, half": (numbers.lenet_half, 30),
    "cifar10_quick, a step": (numbers.quick_step, 30),
    "resnet20 with tanh": (numbers.resnet_tanh, 40),
    "resnet20, a step": (numbers.resnet_relu, 40),
    "capture": (numbers.capture, 40),
    "capture, checked": (lambda: numbers.capture(checked=True), 40),
    "capture, half": (lambda: numbers.capture(checked=True, precision="FP16"), 40),
    "capture, accumulated": (lambda: numbers.capture(checked=True, iter_size=2), 40),
    "capture, half, accum.": (
        lambda: numbers.capture(checked=True, precision="FP16", iter_size=2), 40,
    ),
    "accuracy": (trainings.accuracy, 90),
    "accuracy, plain": (lambda: trainings.accuracy(2, 0.96, cuda_graphs=False), 90),
    "accuracy, autotuned": (lambda: trainings.accuracy(2, 0.96, autotune=True), 90),
    "accuracy, half": (
        lambda: trainings.accuracy(2, 0.96, precision="FP16"), 90,
    ),
    "streaming": (trainings.streaming, 60),
    "resume": (trainings.resume, 60),
    "diagnosis": (trainings.diagnosis, 40),
    "exported": (trainings.exported, 40),
    "commands": (trainings.commands, 90),
}  # fmt: skip
"""Each with the seconds that it may take."""
ALONE: dict[str, tuple[Callable[[], str], int]] = {
    **{f"speed {name}": (lambda case=case: speed(*case), 60) for name, case in SPEEDS.items()},
    "too large": (trainings.too_large, 90),
}
"""What wants the device for itself."""
IN_SMALL = (
    "versions", *(name for name in CHECKS if name.startswith("placement")), "families",
    "families, half", "augmentation", "lenet, 20 steps", "capture", "capture, half, accum.",
    "streaming", "diagnosis", "speed lenet 64",
)  # fmt: skip


def run_one(name: str) -> int:
    """A check in this process; its last line says how it went."""
    try:
        with redirect_stdout(sys.stderr):
            said, fine = (CHECKS | ALONE)[name][0](), True
    except Exception as fault:
        traceback.print_exc()
        said, fine = f"{type(fault).__name__}: {(str(fault).splitlines() or [''])[0][:600]}", False
    print(json.dumps([fine, said]))
    return 0


def run_apart(name: str, seconds: float) -> tuple[bool, str]:
    """A check in a process of its own."""
    words = [w for w in ("--dry-run", "--small") if w in sys.argv]
    try:
        ended = subprocess.run(
            [sys.executable, __file__, *words, "--check", name],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return False, f"not done in {seconds:.0f} s"
    try:
        fine, said = json.loads(ended.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = (ended.stderr.splitlines() or [""])[-1]
        return False, f"the process ended with {ended.returncode}: {last[:300]}"
    if not fine:
        print(ended.stderr[-3000:], file=sys.stderr)
    return bool(fine), str(said)


def chosen(names: Iterable[str]) -> list[str]:
    """The checks that are to run: those the command line asks for, of those that can."""
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    barred = set(list(ALONE)[1:]) if DRY else set()
    return [
        name
        for name in names
        if name not in barred
        and (not SMALL or name in IN_SMALL)
        and (not words or any(word in name for word in words))
    ]


def main() -> int:
    if "--check" in sys.argv:
        return run_one(sys.argv[sys.argv.index("--check") + 1])
    if not DRY and (fault := cuda_fault()):
        print(f"no GPU: {fault}")
        return 2
    end, failed = time.monotonic() + TOTAL, False

    def row(name: str) -> tuple[str, bool]:
        start, left_over = time.monotonic(), end - time.monotonic()
        budget = (CHECKS | ALONE)[name][1]
        fine, said = (
            run_apart(name, min(budget, left_over)) if left_over > 5 else (False, "no time left")
        )
        print(f"{name} …", file=sys.stderr, flush=True)
        seconds = time.monotonic() - start
        return f"{'ok  ' if fine else 'FAIL'} {name:22} {seconds:4.0f} s  {said}", fine

    with ThreadPoolExecutor(max(1, cores() // 2)) as pool:
        for text, fine in chain(pool.map(row, chosen(CHECKS)), map(row, chosen(ALONE))):
            print(text, flush=True)
            failed = failed or not fine
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
