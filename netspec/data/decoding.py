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
from netspec.data.tolerance import Bad, Tolerance

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

    unread = _decoded(dataset, fill)
    arrays = {**data, **dataset.arrays}
    return replace(dataset, arrays=arrays, streamed={}, decoded=frozenset(data), unread=unread)


def readable(dataset: Dataset, tolerance: Tolerance) -> Dataset:
    """The data set without the samples that cannot be read, which are counted and told.

    Those that are streamed are all decoded to know them, if any may be left out. DataError if they
    are more than that, and later if one turns bad since.
    """
    if not tolerance.limit:
        return dataset
    lazies = {n: replace(lazy, tolerance=tolerance) for n, lazy in dataset.streamed.items()}

    def fill(task: range) -> Decoded:
        aside = {n: np.empty((len(task), *a.shape[1:]), a.dtype) for n, a in lazies.items()}
        return decode_rows(lazies, np.array(task, np.int64), aside)

    unread = dataset.unread
    if lazies:
        dataset = replace(dataset, streamed=lazies)
        unread = _decoded(dataset, fill)
    tolerance.pass_over(unread.values())
    if unread:
        rows = np.arange(len(dataset), dtype=np.int64)
        dataset = dataset.chosen(np.setdiff1d(rows, [*unread]))
    strictly = {n: replace(a, tolerance=Tolerance()) for n, a in dataset.streamed.items()}
    return replace(dataset, streamed=strictly)


def _decoded(dataset: Dataset, fill: Callable[[range], Decoded]) -> dict[int, Bad]:
    """Have every streamed sample decoded by `fill`; which were bad, by their places."""
    lazies = dataset.streamed
    tasks = [range(len(dataset))[at : at + _TASK] for at in range(0, len(dataset), _TASK)]
    met: dict[str, Bad] = {}
    unread: list[int] = []
    with strict(), closing(_mapped(fill, tasks, threads=_large(dataset))) as parts:
        for task, part in zip(tasks, parts, strict=True):
            taken = settled(lazies, [part], len(task))
            unread += [row for row, found in zip(task, taken.tolist(), strict=True) if row != found]
            met |= {bad.name: bad for bad in part.bad}
    (lazy, *_) = lazies.values()
    return {row: met[lazy.name(row)] for row in unread}


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
