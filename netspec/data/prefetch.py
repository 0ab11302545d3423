"""Batches decoded by threads before they are asked for, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

import numpy as np

from netspec.data.dataset import Array
from netspec.data.decoding import THREADED, workers
from netspec.data.files.image import strict_from_now_on
from netspec.data.lazy import Decoded, Lazy, Rows, decode_rows, settled

AHEAD = 2
"""Batches that are made while one is in use: the memory that it takes is that of three."""

Ahead: TypeAlias = Callable[[int], Rows | None]
"""The samples of the batch of a number, as far as they are known beforehand."""


@dataclass(frozen=True)
class _Pending:
    """A batch that threads are at work on."""

    rows: Rows
    arrays: dict[str, Array]
    tasks: list[Future[Decoded]]


class Prefetch:
    """A data set's batches in the order that `ahead` foretells.

    What it foretells changes no batch, only whether it is ready: a batch of other samples is
    decoded when it is asked for. Nothing is lost if an exception falls into any line of it, such as
    a signal's.
    """

    def __init__(self, arrays: Mapping[str, Array | Lazy], batch: int, ahead: Ahead) -> None:
        self._whole = {name: a for name, a in arrays.items() if not isinstance(a, Lazy)}
        self._lazy = {name: a for name, a in arrays.items() if isinstance(a, Lazy)}
        self._batch = batch
        self._ahead = ahead
        self._pending: dict[int, _Pending] = {}
        self._pool: ThreadPoolExecutor | None = None

    def take(self, number: int, rows: Rows) -> dict[str, Array]:
        """The samples of a batch, and zeros up to the whole batch; DataError if one is bad."""
        pending = self._pending.pop(number, None)
        if pending is None or not np.array_equal(pending.rows, rows):
            self._drop()
            pending = self._begun(rows)
        for later in range(number + 1, number + 1 + AHEAD):
            if later not in self._pending and (foretold := self._ahead(later)) is not None:
                self._pending[later] = self._begun(foretold)
        return self._finished(pending)

    def close(self) -> None:
        """End the threads; they stop with the sample that they are at."""
        self._drop()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _drop(self) -> None:
        for pending in self._pending.values():
            for task in pending.tasks:
                task.cancel()
        self._pending = {}

    def _begun(self, rows: Rows) -> _Pending:
        arrays: dict[str, Array] = {
            name: np.zeros((self._batch, *lazy.shape[1:]), lazy.dtype)
            for name, lazy in self._lazy.items()
        }
        if not arrays:
            return _Pending(rows, arrays, [])
        if self._pool is None:
            strict_from_now_on()
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="decode")
        step = -(-len(rows) // (2 * self._threads if self._threads > 1 else 1))
        tasks = [
            self._pool.submit(decode_rows, self._lazy, rows[at : at + step], arrays, at)
            for at in range(0, len(rows), step)
        ]
        return _Pending(rows, arrays, tasks)

    def _finished(self, pending: _Pending) -> dict[str, Array]:
        """Wait for a batch, and put beside what was decoded the same samples of the rest."""
        rows = pending.rows
        if pending.tasks:
            rows = settled(self._lazy, [task.result() for task in pending.tasks], len(rows))
        for name, array in self._whole.items():
            part = np.zeros((self._batch, *array.shape[1:]), array.dtype)
            part[: len(rows)] = array[rows]
            pending.arrays[name] = part
        return pending.arrays

    @property
    def _threads(self) -> int:
        """One for small images, see `THREADED`; it is as far ahead while the step computes."""
        largest = max((prod(lazy.shape[2:]) for lazy in self._lazy.values()), default=0)
        return workers() if largest >= THREADED else 1
