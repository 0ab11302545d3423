"""How long a step waits for JPEG files decoded as they are needed, beside PyTorch's loader.

resnet20, batch 64, on a folder of 32 x 32 JPEGs: the step is the same for all sides, and so are the
files; the sides take turns. PyTorch decodes by Pillow, too, in two processes.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from netspec.compiler import read
from netspec.training.execution.executor import Executor
from netspec.training.execution.machine import find_machine
from netspec.training.setup.experiment import Experiment, prepare

ARCHIVE = Path(__file__).parents[3] / "shared" / "data" / "cifar10-12k-jpg.zip"
BATCH, STEPS, BLOCKS = 64, 25, 4
"""Samples of a step, steps of a block, and blocks of each side, the first to warm up."""
RATE = 0.01


def measure() -> Iterator[tuple[str, str]]:
    if not ARCHIVE.is_file():
        yield "skipped", f"there is no {ARCHIVE}"
        return
    with tempfile.TemporaryDirectory() as folder:
        zipfile.ZipFile(ARCHIVE).extractall(folder)
        (root,) = Path(folder).iterdir()
        yield from compare(root)


def compare(root: Path) -> Iterator[tuple[str, str]]:
    held, streamed = (opened(root, cache) for cache in ("MEMORY", "NONE"))
    sides = {"in memory": ours(*held), "streamed": ours(*streamed)}
    try:
        sides["DataLoader"] = loader(root, held[1])
    except ImportError:
        yield "PyTorch", "is not installed: pip install netspec[parity]"
    waits: dict[str, list[float]] = {side: [] for side in sides}
    steps: dict[str, list[float]] = {side: [] for side in sides}
    for block in range(BLOCKS):
        for side, run in sides.items():
            begin = time.perf_counter()
            waited = run(block * STEPS)
            if block:
                waits[side].append(waited / STEPS)
                steps[side].append((time.perf_counter() - begin) / STEPS)
    streamed[1].close()
    step = statistics.median(steps["in memory"])
    for side in [*sides][1:]:
        wait, whole = statistics.median(waits[side]), statistics.median(steps[side])
        yield (
            side,
            f"waits {wait / step:.2%} of a step; the step takes {whole / step:.2f} times as long",
        )
    if "DataLoader" in sides:
        ours_, theirs = (statistics.median(waits[side]) for side in ("streamed", "DataLoader"))
        yield "wait of a step, ours / PyTorch's", f"{ours_ / theirs:.2f}"


def opened(root: Path, cache: str) -> tuple[Experiment, Executor]:
    sets = [
        f'data.train.source="{root}"',
        f"data.train.batch_size={BATCH}",
        f"data.train.cache={cache}",
        f'data.test.source="{root}"',
    ]
    experiment = prepare(read("resnet20", sets=sets))
    return experiment, Executor.of(experiment, find_machine("cpu"))


def ours(experiment: Experiment, executor: Executor) -> Callable[[int], float]:
    """Steps from one on; the seconds that they waited."""
    batches = experiment.batches

    def run(first: int) -> float:
        before = executor.waited or 0.0
        for i in range(first, first + STEPS):
            executor.step(i, batches.indices(i), RATE)
        return (executor.waited or 0.0) - before

    return run


def loader(root: Path, executor: Executor) -> Callable[[int], float]:
    """The same step on samples in memory, each after a batch of PyTorch's loader has come."""
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader

    files = sorted((root / "train").rglob("*.jpg"))

    class Files(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, i: int) -> Any:
            with Image.open(files[i]) as image:
                pixels = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
            return torch.from_numpy(np.ascontiguousarray(pixels)), i % 10

    loaded = DataLoader(Files(), BATCH, shuffle=True, num_workers=2, persistent_workers=True)
    batches = iter(loaded)

    def run(first: int) -> float:
        nonlocal batches
        waited = 0.0
        for i in range(first, first + STEPS):
            begin = time.perf_counter()
            try:
                next(batches)
            except StopIteration:
                batches = iter(loaded)
                next(batches)
            waited += time.perf_counter() - begin
            executor.step(i, np.arange(BATCH, dtype=np.int64), RATE)
        return waited

    return run
