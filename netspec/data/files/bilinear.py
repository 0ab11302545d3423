"""Images of another size, as OpenCV's INTER_LINEAR makes them, which Caffe calls."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_ONE = 1 << 11
"""A weight of 1 (OpenCV, INTER_RESIZE_COEF_SCALE)."""


def resize(pixels: NDArray[np.uint8], extent: tuple[int, int]) -> NDArray[np.uint8]:
    """C x H x W bytes at height x width, each the mean of the four around (i + ½)·H/height - ½.

    Unlike Pillow it does not average over more where it shrinks. The arithmetic is OpenCV's own, in
    whole numbers (`resize.cpp`, HResizeLinear and VResizeLinear for bytes), so that no value
    differs.
    """
    if pixels.shape[1:] == extent:
        return pixels
    down = _around(pixels.shape[1], extent[0], held=False)
    across = _around(pixels.shape[2], extent[1], held=True)
    values = pixels.astype(np.int32)
    rows = values[:, :, across.first] * across.shares[0]
    rows += values[:, :, across.second] * across.shares[1]
    rows >>= 4
    upper, lower = (share[:, np.newaxis] for share in down.shares)
    resized = (upper * rows[:, down.first] >> 16) + (lower * rows[:, down.second] >> 16)
    return (resized + 2 >> 2).astype(np.uint8)


class _Around(NamedTuple):
    """The two cells around each place of an axis, and the share of each."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    shares: tuple[NDArray[np.int32], NDArray[np.int32]]


def _around(cells: int, wanted: int, *, held: bool) -> _Around:
    """Beyond the first and last cell both are that one, with one share if it is `held`."""
    places = ((np.arange(wanted) + 0.5) * (cells / wanted) - 0.5).astype(np.float32)
    before = np.floor(places).astype(np.int64)
    share = places - before.astype(np.float32)
    if held:
        share[(before < 0) | (before >= cells - 1)] = 0
        before = np.clip(before, 0, cells - 1)
    first, second = np.clip(before, 0, cells - 1), np.clip(before + 1, 0, cells - 1)
    shares = (np.rint((1 - share) * _ONE), np.rint(share * _ONE))
    return _Around(first, second, (shares[0].astype(np.int32), shares[1].astype(np.int32)))
