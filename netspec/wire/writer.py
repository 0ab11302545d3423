"""A message that is being written."""

from __future__ import annotations

from collections.abc import Iterable
from struct import pack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netspec.wire.frame import Buffer, Wire


class Writer:
    """A message that is being written: contiguous buffers, arrays among them as they are.

    The same calls give the same bytes.
    """

    def __init__(self) -> None:
        self.chunks: list[Buffer] = []
        """The message, in order."""
        self.size = 0
        """Bytes."""

    def integer(self, number: int, value: int) -> None:
        """A signed integer of up to 64 bits."""
        self._add(_varint(number << 3 | Wire.VARINT) + _varint(value % (1 << 64)))

    def integers(self, number: int, values: Iterable[int]) -> None:
        """A packed list of signed integers; nothing for an empty one, as protobuf does it."""
        if packed := b"".join(_varint(value % (1 << 64)) for value in values):
            self.content(number, packed)

    def floats(self, number: int, values: NDArray[Any]) -> None:
        """A packed list of 32-bit floats; nothing for an empty one, as protobuf does it."""
        if values.size:
            packed = np.ascontiguousarray(values, "<f4").reshape(-1).view(np.uint8)
            self.content(number, packed.data)

    def single(self, number: int, value: float) -> None:
        """A 32-bit float."""
        self._add(_varint(number << 3 | Wire.FIXED32) + pack("<f", value))

    def double(self, number: int, value: float) -> None:
        """A 64-bit float."""
        self._add(_varint(number << 3 | Wire.FIXED64) + pack("<d", value))

    def text(self, number: int, value: str) -> None:
        """A string."""
        self.content(number, value.encode())

    def content(self, number: int, value: Buffer) -> None:
        """Bytes."""
        self._head(number, len(value))
        self._add(value)

    def message(self, number: int, part: Writer) -> None:
        """A message, whose buffers are taken over."""
        self._head(number, part.size)
        for chunk in part.chunks:
            self._add(chunk)

    def _head(self, number: int, length: int) -> None:
        self._add(_varint(number << 3 | Wire.LENGTH) + _varint(length))

    def _add(self, chunk: Buffer) -> None:
        self.size += len(chunk)
        if isinstance(chunk, memoryview):
            self.chunks.append(chunk)
        elif self.chunks and isinstance(self.chunks[-1], bytearray):
            self.chunks[-1] += chunk
        else:
            self.chunks.append(bytearray(chunk))


def _varint(value: int) -> bytes:
    octets = bytearray()
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)
