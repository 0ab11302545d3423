"""A message whose fields are asked for by number and type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from netspec.wire.fault import WireError
from netspec.wire.frame import VARINT_BYTES, Budget, Buffer, Field, Wire, frame

MAX_INTEGERS = 1 << 20
"""The most integers of one field."""

MAX_TEXT = 1 << 12
"""The most bytes of a text: names and paths."""

Floats: TypeAlias = NDArray[np.float32]
Doubles: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]

_SHOWN = {
    Wire.VARINT: "an integer",
    Wire.FIXED64: "64-bit numbers",
    Wire.LENGTH: "a text, a message or a packed list",
    Wire.FIXED32: "32-bit numbers",
}


class Message:
    """The fields of one message, framed when it is made and decoded when they are asked for.

    Nothing is copied, and nothing is allocated by a length that was not compared with the bytes
    there. Every fault is a WireError.
    """

    def __init__(
        self, content: Buffer, *, path: str = "", _at: int = 0, _budget: Budget | None = None
    ) -> None:
        self._content = memoryview(content).cast("B")
        self._at = _at
        self._budget = _budget or Budget()
        self.path = path
        self._fields = frame(self._content, self._fault, self._budget)

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self._content)

    def has(self, *numbers: int) -> bool:
        """Whether a field of one of these numbers is there."""
        return any(number in self._fields for number in numbers)

    def integer(self, number: int, default: int = 0) -> int:
        """A signed integer (int32, int64, bool, enum); the last one given, as protobuf says."""
        found = self._of(number, Wire.VARINT)
        return _signed(found[-1].value) if found else default

    def integers(self, number: int, most: int = MAX_INTEGERS) -> Integers:
        """A list of signed integers, packed or not."""
        parts = [np.empty(0, np.int64)]
        for field in self._of(number, Wire.VARINT, Wire.LENGTH):
            most -= self._count(field)
            if most < 0:
                raise self._fault("a list of too many integers", field.at)
            parts.append(self._integers(field))
        return np.concatenate(parts)

    def floats(self, number: int) -> Floats:
        """A list of 32-bit floats, packed or not; a view of the bytes if they are in one piece."""
        return self._reals(number, Wire.FIXED32, np.dtype("<f4"))

    def doubles(self, number: int) -> Doubles:
        """A list of 64-bit floats, packed or not; a view of the bytes if they are in one piece."""
        return self._reals(number, Wire.FIXED64, np.dtype("<f8"))

    def content(self, number: int) -> memoryview:
        """The bytes of a field; the last one given, none if it is not there."""
        found = self._of(number, Wire.LENGTH)
        return self._content[found[-1].start : found[-1].end] if found else memoryview(b"")

    def text(self, number: int) -> str:
        """A string, the last one given; of bytes that are not UTF-8 the escapes."""
        return self.texts(number)[-1] if self.has(number) else ""

    def texts(self, number: int) -> tuple[str, ...]:
        """The strings of a repeated field."""
        texts = []
        for _, at, start, end, _ in self._of(number, Wire.LENGTH):
            if end - start > MAX_TEXT:
                raise self._fault(f"a text of {end - start:,} bytes", at)
            texts.append(str(self._content[start:end], "utf-8", "backslashreplace"))
        return tuple(texts)

    def message(self, number: int, name: str) -> Message | None:
        """The message in a field, if it is there; twice is a fault."""
        found = self._of(number, Wire.LENGTH)
        if len(found) > 1:
            raise self.fault(f"`{name}` is given {len(found):,} times", number)
        return self._part(found[0], name) if found else None

    def messages(self, number: int, name: str) -> Iterator[Message]:
        """The messages of a repeated field, each framed when its turn comes."""
        for i, field in enumerate(self._of(number, Wire.LENGTH)):
            yield self._part(field, f"{name}[{i}]")

    def fault(self, text: str, number: int | None = None) -> WireError:
        """A fault of this message, or of one of its fields if that is there."""
        fields = self._fields.get(number, []) if number is not None else []
        return self._fault(text, fields[0].at if fields else 0)

    def _fault(self, text: str, position: int) -> WireError:
        return WireError(text, self._at + position, self.path)

    def _of(self, number: int, *wires: Wire) -> list[Field]:
        """The fields of a number, which must be of these types."""
        found = self._fields.get(number, [])
        for field in found:
            if field.wire not in wires:
                wanted = " or ".join(_SHOWN[wire] for wire in wires)
                text = f"field {number} holds {_SHOWN[field.wire]} where {wanted} is due"
                raise self._fault(text, field.at)
        return found

    def _part(self, field: Field, name: str) -> Message:
        return Message(
            self._content[field.start : field.end],
            path=f"{self.path}.{name}" if self.path else name,
            _at=self._at + field.start,
            _budget=self._budget,
        )

    def _reals(self, number: int, wire: Wire, dtype: np.dtype[Any]) -> NDArray[Any]:
        parts = [self._real(field, dtype) for field in self._of(number, wire, Wire.LENGTH)]
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty(0, dtype)

    def _real(self, field: Field, dtype: np.dtype[Any]) -> NDArray[Any]:
        if field.wire is not Wire.LENGTH:
            tag = field.start - field.at
            record = np.dtype([("tag", np.uint8, tag), ("value", dtype)])
            unpacked: NDArray[Any] = np.frombuffer(self._content[field.at : field.end], record)
            return unpacked["value"]
        length = field.end - field.start
        if length % dtype.itemsize:
            text = f"a list of {length:,} bytes of numbers of {dtype.itemsize}"
            raise self._fault(text, field.start)
        return np.frombuffer(self._content[field.start : field.end], dtype)

    def _count(self, field: Field) -> int:
        """How many varints a field holds."""
        if field.wire is Wire.VARINT:
            return 1
        octets = np.frombuffer(self._content[field.start : field.end], np.uint8)
        return int(np.count_nonzero(octets < 0x80))

    def _integers(self, field: Field) -> Integers:
        """The varints of a field: byte k of each adds its seven bits at 7·k, for all at once."""
        if field.wire is Wire.VARINT:
            return np.array([_signed(field.value)], np.int64)
        octets = np.frombuffer(self._content[field.start : field.end], np.uint8)
        if octets.size and octets[-1] >= 0x80:
            raise self._fault("truncated within an integer", field.end)
        ends = np.flatnonzero(octets < 0x80)
        starts = np.concatenate([[0], ends[:-1] + 1])[: ends.size]
        lengths = ends - starts + 1
        longest = int(lengths.max(initial=0))
        if longest > VARINT_BYTES or (octets[ends[lengths == VARINT_BYTES]] > 1).any():
            at = field.start + int(starts[lengths.argmax()])
            raise self._fault("an integer of more than 64 bits", at)
        values = np.zeros(ends.size, np.uint64)
        for k in range(longest):
            live = lengths > k
            bits = (octets[starts[live] + k] & 0x7F).astype(np.uint64)
            values[live] |= bits << np.uint64(7 * k)
        return values.view(np.int64)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
