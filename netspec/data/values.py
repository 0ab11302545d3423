"""The values of arrays as training takes them: bytes, float32, and int64 for labels."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from netspec.data.dataset import Array
from netspec.data.file import fault
from netspec.ir.types import Shape, TensorType

_EXACT = 1 << 24
"""float32 holds every integer up to it."""


def sample_type(key: str, shape: Shape, dtype: np.dtype[Any]) -> TensorType:
    """The type of a sample of an array, as `converted` will give it."""
    if key == "label" and dtype.kind in "ui":
        return TensorType(shape[1:], "int64")
    return TensorType(shape[1:], "uint8" if dtype == np.uint8 else "float32")


def converted(path: Path, key: str, array: Array) -> Array:
    """Bytes as they are, labels as int64, all other numbers as float32, none of them changed."""
    kind = array.dtype.kind
    if kind not in "uif":
        raise fault(path, f"`{key}`: values of type {array.dtype}")
    if array.dtype == np.uint8 and key != "label":
        return np.ascontiguousarray(array)
    to, least, most = (np.float32, -_EXACT, _EXACT)
    if kind in "ui" and key == "label":
        to, least, most = (np.int64, -(1 << 63), (1 << 63) - 1)  # type: ignore[assignment]
    with np.errstate(over="ignore"):
        converted = np.ascontiguousarray(array, to)
    bad = ~np.isfinite(converted) if kind == "f" else (array < least) | (array > most)
    if bad.any():
        place = int(np.argmax(bad))
        row = place // max(1, prod(array.shape[1:]))
        number = array.flat[place]
        held = f"is not a value that {np.dtype(to)} can hold"
        what = f"{number} {held if np.isfinite(number) else 'is not a finite number'}"
        raise fault(path, f"`{key}`: row {row:,}: {what}")
    return converted
