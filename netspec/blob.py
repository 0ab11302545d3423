"""Caffe's BlobProto: an array of floats, as weight files and mean files hold it."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netspec.mapped import map_file
from netspec.wire import Buffer, Floats, Message, Writer, decoding

MAX_AXES = 32
"""The most axes of a Caffe blob (`blob.hpp`)."""

MAX_VALUES = (1 << 31) - 1
"""The most values of one (`blob.cpp`)."""

_DATA, _SHAPE, _DOUBLE_DATA = 5, 7, 8
_LEGACY = (1, 2, 3, 4)
"""num, channels, height, width: how shapes were written before 2015."""
_DIM = 1


def read_blob(message: Message) -> Floats:
    """The data of a BlobProto as float32, in its shape; a view of the bytes where they are that.

    As in Caffe (`blob.cpp`) one of num, channels, height and width makes it an array of these four
    axes whatever `shape` says, and double_data goes before data; gradients are passed over. Raises
    WireError if shape and data disagree, or a double is beyond float32.
    """
    shape, data = _shape(message), _data(message)
    if data.size != prod(shape):
        text = f"a blob of {_size(shape)} takes {prod(shape):,} values, {data.size:,} are there"
        raise message.fault(text, _DATA)
    return data.reshape(shape)


def write_blob(array: NDArray[Any]) -> Writer:
    """An array as a BlobProto: its shape and its data, as float32.

    As Caffe writes it, a single number has no shape; OpenCV reads none of no axes.
    """
    shape, blob = Writer(), Writer()
    shape.integers(_DIM, array.shape)
    blob.floats(_DATA, array)
    if array.shape:
        blob.message(_SHAPE, shape)
    return blob


def read_mean(path: Path) -> Floats:
    """The image in a mean file (`.binaryproto`), channels x height x width; else DataError."""
    with decoding(path):
        message = Message(map_file(path))
        mean = read_blob(message)
        image = mean[0] if mean.ndim == 4 and len(mean) == 1 else mean
        if image.ndim != 3 or not image.size:
            raise message.fault(f"{_size(mean.shape)} is no image of channels x height x width")
        return image.copy()


def mean_file(image: NDArray[Any]) -> list[Buffer]:
    """The content of a mean file: an image of channels x height x width, in the legacy form.

    Caffe's `compute_image_mean` writes that form, and its Matlab and Python wrappers expect it.
    """
    blob = Writer()
    for number, extent in zip(_LEGACY, (1, *image.shape), strict=True):
        blob.integer(number, extent)
    blob.floats(_DATA, image)
    return blob.chunks


def _shape(message: Message) -> tuple[int, ...]:
    if message.has(*_LEGACY):
        shape = tuple(message.integer(number) for number in _LEGACY)
    else:
        stated = message.message(_SHAPE, "shape")
        shape = tuple(stated.integers(_DIM, MAX_AXES).tolist()) if stated else ()
    if min(shape, default=0) < 0:
        raise message.fault(f"a blob of {_size(shape)} has a negative extent")
    if prod(max(1, extent) for extent in shape) > MAX_VALUES:
        raise message.fault(f"a blob of {_size(shape)} is beyond what Caffe holds")
    return shape


def _data(message: Message) -> Floats:
    doubles = message.doubles(_DOUBLE_DATA)
    if not doubles.size:
        return message.floats(_DATA)
    try:
        return narrowed(doubles)
    except ValueError as lost:
        raise message.fault(str(lost), _DOUBLE_DATA) from None


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single number"


def narrowed(numbers: NDArray[Any]) -> Floats:
    """Numbers as float32; a ValueError for one that is finite and beyond what float32 holds."""
    if numbers.dtype == np.float32:
        return numbers
    with np.errstate(over="ignore", invalid="ignore"):
        floats = numbers.astype(np.float32)
    lost = np.isinf(floats) & np.isfinite(numbers)
    if lost.any():
        place = int(lost.argmax())
        raise ValueError(f"value {place:,}, {numbers.flat[place]:g}, is beyond what float32 holds")
    return floats
