"""Images of another size, as OpenCV's INTER_LINEAR makes them, which Caffe calls."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Places: TypeAlias = NDArray[np.intp]


def resize(pixels: NDArray[np.uint8], extent: tuple[int, int]) -> NDArray[np.uint8]:
    """C x H x W bytes at height x width, each the mean of the four around (i + ½)·H/height - ½.

    Unlike Pillow it does not average over more where it shrinks (OpenCV, `resize.cpp`; its weights
    are of 11 bits, so values may differ by 1).
    """
    if pixels.shape[1:] == extent:
        return pixels
    upper, lower, down = _around(pixels.shape[1], extent[0])
    left, right, across = _around(pixels.shape[2], extent[1])
    values = pixels.astype(np.float32)
    rows = values[:, upper] * (1 - down)[:, np.newaxis] + values[:, lower] * down[:, np.newaxis]
    resized = rows[:, :, left] * (1 - across) + rows[:, :, right] * across
    return np.floor(resized + np.float32(0.5)).astype(np.uint8)


def _around(cells: int, wanted: int) -> tuple[Places, Places, NDArray[np.float32]]:
    """The two cells around each place, and the share of the second."""
    places = np.clip((np.arange(wanted) + 0.5) * cells / wanted - 0.5, 0, cells - 1)
    first = places.astype(np.intp)
    share = (places - first).astype(np.float32)
    return first, np.minimum(first + 1, cells - 1), share
