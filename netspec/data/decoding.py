"""Decodes the images of a data set into one array, by threads where that pays."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path

import numpy as np

from netspec.data.dataset import Array, afford
from netspec.ir.types import Shape

_TASK = 64
"""Images that a thread decodes in one go."""

_THREADED = 128 * 128
"""Pixels from which threads pay: below, handing Python's lock around costs more than decoding."""


def decode_all(path: Path, count: int, shape: Shape, decode: Callable[[int], Array]) -> Array:
    """Images as one N x C x H x W array of bytes; `decode` gives the i-th, of C x H x W."""
    afford(path, count, "images", shape)
    data = np.empty((count, *shape), np.uint8)

    def fill(start: int) -> None:
        for row in range(start, min(start + _TASK, count)):
            data[row] = decode(row)

    tasks = range(0, count, _TASK)
    if prod(shape[1:]) < _THREADED:
        for start in tasks:
            fill(start)
        return data
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for _ in pool.map(fill, tasks):
            pass
    finally:
        pool.shutdown(cancel_futures=True)
    return data
