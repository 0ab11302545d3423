"""Decodes the images of a data set into memory, by threads where that pays."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np

from netspec.data.dataset import Array, Dataset, afford
from netspec.data.files.image import strict
from netspec.data.lazy import Decoded, decode_rows, settled

_TASK = 64
"""Images that a thread decodes in one go."""

THREADED = 128 * 128
"""Pixels from which threads pay: below, handing Python's lock around costs more than decoding."""


def workers() -> int:
    """Threads that decode."""
    return os.cpu_count() or 1


def in_memory(path: Path, dataset: Dataset) -> Dataset:
    """The data set with the arrays that its images stand for, N x C x H x W."""
    lazies = dataset.streamed
    if not lazies:
        return dataset
    for lazy in lazies.values():
        afford(path, len(lazy), "samples", lazy.shape[1:], lazy.dtype.itemsize)
    data: dict[str, Array] = {name: np.empty(a.shape, a.dtype) for name, a in lazies.items()}

    def fill(task: range) -> Decoded:
        return decode_rows(lazies, np.array(task, np.int64), data, task.start)

    tasks = [range(len(dataset))[at : at + _TASK] for at in range(0, len(dataset), _TASK)]
    with strict(), closing(_mapped(fill, tasks, threads=_large(dataset))) as parts:
        taken = np.concatenate(
            [settled(lazies, [part], len(task)) for task, part in zip(tasks, parts, strict=True)]
        )
    arrays = dataset.arrays
    if (taken != np.arange(len(taken))).any():
        arrays = {name: array[taken] for name, array in arrays.items()}
    return replace(dataset, arrays={**data, **arrays}, streamed={})


def _large(dataset: Dataset) -> bool:
    return any(prod(lazy.shape[2:]) >= THREADED for lazy in dataset.streamed.values())


def _mapped(
    fill: Callable[[range], Decoded], tasks: list[range], *, threads: bool
) -> Generator[Decoded, None, None]:
    """What each task gives, in turn; none is begun after a fault."""
    if not threads:
        yield from map(fill, tasks)
        return
    pool = ThreadPoolExecutor(workers())
    try:
        yield from pool.map(fill, tasks)
    finally:
        pool.shutdown(cancel_futures=True)
