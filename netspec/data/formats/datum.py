"""Datum: the record of Caffe's image databases."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from netspec.data.dataset import Array
from netspec.ir.types import Shape, size
from netspec.wire import Message

_CHANNELS, _HEIGHT, _WIDTH, _DATA, _LABEL, _FLOATS, _ENCODED = range(1, 8)
"""The fields' numbers (`caffe.proto`, message Datum)."""

_LARGEST = 1 << 31


@dataclass(frozen=True)
class Datum:
    """One image as it is stored, with its label."""

    shape: Shape
    """Channels x height x width, as far as it says: an encoded one need not."""
    label: int
    encoded: bool
    """Whether `data` is a JPEG or PNG file."""
    data: memoryview
    floats: NDArray[np.float32]
    """The values where they are not bytes."""

    @classmethod
    def read(cls, record: memoryview) -> Datum:
        """Raises WireError; nothing is copied."""
        message = Message(record)
        found = cls(
            tuple(message.integer(number) for number in (_CHANNELS, _HEIGHT, _WIDTH)),
            message.integer(_LABEL),
            bool(message.integer(_ENCODED)),
            message.content(_DATA),
            message.floats(_FLOATS),
        )
        if not found.encoded:
            found._check(message)
        return found

    @property
    def values(self) -> Array:
        """The array of one that is not encoded: uint8, or float32."""
        if len(self.data):
            return np.frombuffer(self.data, np.uint8).reshape(self.shape)
        return self.floats.reshape(self.shape)

    def _check(self, message: Message) -> None:
        if min(self.shape) < 1 or prod(self.shape) > _LARGEST:
            raise message.fault(f"an image of {size(self.shape)}")
        held = len(self.data) or self.floats.size
        if held != prod(self.shape):
            kind = "bytes" if len(self.data) else "values"
            text = f"an image of {size(self.shape)} takes {prod(self.shape):,} {kind}"
            raise message.fault(f"{text}, {held:,} are there", _DATA if len(self.data) else _FLOATS)
        if not len(self.data) and not np.isfinite(self.floats).all():
            raise message.fault("a value is not a finite number", _FLOATS)
