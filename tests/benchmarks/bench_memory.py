"""Peak resident memory: of each net's training step beside PyTorch's, and of whole processes.

`memory:resnet20,lenet` measures the steps of these nets alone. Each side runs in a process of its
own; counted is how far its high-water mark grows over what imports and data take.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from netspec.autodiff import grad
from netspec.codegen.footprint import counted
from netspec.ir.training_memory import training_memory
from netspec.training.execution.bound import array_types
from netspec.training.execution.targets import find_target

TESTS = Path(__file__).parents[1]
STEPS = 5

_TRAIN = """
import sys
from netspec.cli import main
sys.argv = ["netspec", "train", "lenet", "--json", "--set", "solver.max_epoch=1"]
try:
    main()
except SystemExit as end:
    assert not end.code
"""
_PEAK = """
from bench_memory import resident
print(resident("VmHWM"))
"""

PROCESSES = {
    "netspec train lenet, an epoch with its test": _TRAIN,
    "imports alone: ours": "import netspec.training.launch",
    "imports alone: PyTorch": "import torch, numpy",
}


def measure(*words: str) -> Iterator[tuple[str, str]]:
    import sides

    for name in sides.chosen(words):
        step = f"from bench_memory import growth\nprint(growth({name!r}, "
        found = [peak(step + f"{side!r}))") for side in ("ours", "pytorch")]
        peaks = [one if isinstance(one, str) else f"{one:.0f} MiB" for one in found]
        mine, theirs = found
        ratio = ""
        if not isinstance(mine, str) and not isinstance(theirs, str):
            ratio = f", ours / theirs {mine / theirs:.2f}"
        net = sides.net_of(name)
        estimated, checked = (size / 2**20 for size in predicted(name))
        yield f"{name}, batch {net.batch}", f"ours {peaks[0]}, PyTorch {peaks[1]}{ratio}"
        said = f"by check {checked:.0f} MiB, from the net's blobs alone {estimated:.0f} MiB"
        yield f"{name}, predicted", said
    if not words:
        for process, code in PROCESSES.items():
            one = peak(code + _PEAK)
            yield process, one if isinstance(one, str) else f"{one:.0f} MiB"


def predicted(name: str) -> tuple[int, int]:
    """Bytes of a training: as estimated from the net, and as counted on the step's operators."""
    import sides

    net = sides.net_of(name)
    estimate = training_memory(net, net.solver)
    assert estimate is not None
    types, target = array_types(sides.noise(net)), find_target("cpu").target
    return estimate.total, counted(estimate, net, types, target, grad).total


def peak(code: str) -> float | str:
    """The mebibytes that a process prints last, or why it prints none."""
    paths = [TESTS.parent, TESTS / "benchmarks", TESTS / "parity"]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
            capture_output=True,
            text=True,
        )
    if done.returncode:
        return "failed: " + (done.stderr.strip() or f"exit {done.returncode}").splitlines()[-1]
    return int(done.stdout.split()[-1]) / 1024


def growth(name: str, side: str) -> int:
    """Kibibytes by which the high-water mark grows while a net's step is made and run."""
    import sides

    if side == "pytorch":
        import torch  # noqa: F401
        import twins_zoo  # noqa: F401
    net = sides.net_of(name)
    arrays = sides.noise(net)
    before = settled()
    step = sides.ours(name, arrays) if side == "ours" else sides.pytorch(name, arrays, net)
    for i in range(STEPS):
        step(i)
    return resident("VmHWM") - before


def settled() -> int:
    """What is resident now in kibibytes; the high-water mark counts from here on."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    return resident("VmHWM")


def resident(field: str) -> int:
    """A field of Linux' account of this process; rusage would count what the parent had."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise KeyError(field)
