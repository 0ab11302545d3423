"""Peak resident memory of a process that trains LeNet at batch 64 on the bundled digits."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

_OURS = """
from netspec.compiler import read
from netspec.training.executor import Executor
from netspec.training.experiment import prepare
experiment = prepare(read("lenet"))
nets, arrays = experiment.nets, experiment.train.arrays
executor = Executor(nets.train.net, None, arrays, None, device="cpu", seed=1)
for i in range(200):
    executor.step(i, experiment.batches.indices(i), 0.01)
"""

_TRAIN = """
import sys
from netspec.cli import main
sys.argv = ["netspec", "train", "lenet", "--json", "--set", "solver.max_epoch=1"]
try:
    main()
except SystemExit as end:
    assert not end.code
"""

_DATA = """
import gzip
from pathlib import Path
import numpy as np
import netspec.data
folder = Path(netspec.data.__file__).parent / "bundled"
def read(name, skip):
    return np.frombuffer(gzip.decompress((folder / name).read_bytes()), np.uint8)[skip:]
images = read("train-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28)
labels = read("train-labels-idx1-ubyte.gz", 8).astype(np.int64)
"""

_TORCH = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests" / "parity")!r})
import torch, twins
torch.set_num_threads(2)
{_DATA}
net = twins.LeNet()
optimizer = torch.optim.SGD(net.parameters(), 0.01, 0.9, weight_decay=5e-4)
order = np.random.default_rng(0).permutation(len(images))
x, y = torch.from_numpy(images.copy()), torch.from_numpy(labels)
for i in range(200):
    indices = torch.from_numpy(order[np.arange(i * 64, i * 64 + 64) % len(order)])
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(net(x[indices].float() / 255), y[indices])
    loss.backward()
    optimizer.step()
    loss.item()
"""

PROCESSES = {
    "200 steps: ours": _OURS,
    "200 steps: PyTorch": _TORCH,
    "netspec train, an epoch with its test": _TRAIN,
    "imports alone: ours": "import netspec.training.executor, netspec.training.experiment",
    "imports alone: PyTorch": "import torch, numpy",
}

_PEAK = """
for line in open("/proc/self/status"):
    if line.startswith("VmHWM"):
        print("PEAK", line.split()[1])
"""


def measure() -> Iterator[tuple[str, str]]:
    """Linux: the child's own high-water mark, since rusage would count what its parent had."""
    for name, code in PROCESSES.items():
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [sys.executable, "-c", code + _PEAK],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
            )
        if done.returncode:
            yield name, "failed: " + done.stderr.strip().splitlines()[-1]
            continue
        kibibytes = int(done.stdout.split("PEAK")[-1])
        yield name, f"{kibibytes / 1024:.0f} MiB"
