"""Decodes the images of a data set into memory, by threads where that pays."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np

from netspec.data.dataset import Array, Dataset, afford
from netspec.data.image import strict
from netspec.data.lazy import Decoded, decode_rows

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

    def fill(start: int) -> Decoded:
        rows = np.arange(start, min(start + _TASK, len(dataset)), dtype=np.int64)
        return decode_rows(lazies, rows, data, start)

    tasks = range(0, len(dataset), _TASK)
    with strict():
        decoded = _in_threads(fill, tasks) if _large(dataset) else [*map(fill, tasks)]
    next(iter(lazies.values())).tolerance.pass_over(bad for part in decoded for bad in part.bad)
    arrays = dataset.arrays
    if any(part.bad for part in decoded):
        taken = np.array([row for part in decoded for row in part.taken], np.int64)
        arrays = {name: array[taken] for name, array in arrays.items()}
    return replace(dataset, arrays={**data, **arrays}, streamed={})


def _large(dataset: Dataset) -> bool:
    return any(prod(lazy.shape[2:]) >= THREADED for lazy in dataset.streamed.values())


def _in_threads(fill: Callable[[int], Decoded], tasks: range) -> list[Decoded]:
    pool = ThreadPoolExecutor(workers())
    try:
        return [*pool.map(fill, tasks)]
    finally:
        pool.shutdown(cancel_futures=True)
