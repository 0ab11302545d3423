"""Protobuf's wire format: the fields of a message, without its schema."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from netspec.diagnostics import DataError, printable

MAX_FIELDS = 200_000
"""The most fields of a message with all its parts; a run of equal unpacked numbers counts once."""

MAX_INTEGERS = 1 << 20
"""The most integers of one field."""

_VARINT = 10
"""The most bytes of a varint: 64 bits, seven in each."""

_MAX_NUMBER = (1 << 29) - 1

Buffer: TypeAlias = bytes | bytearray | memoryview
Floats: TypeAlias = NDArray[np.float32]
Doubles: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]


class WireError(ValueError):
    """Bytes that are no message, or not the one expected.

    `offset` is where, from the start of the file; `path` is the message's, `layer[3].blobs[0]`.
    """

    def __init__(self, message: str, offset: int, path: str = "") -> None:
        super().__init__(f"byte {offset}: {path}{': ' if path else ''}{message}")
        self.offset = offset


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Makes of a WireError inside a DataError that names the file."""
    try:
        yield
    except WireError as fault:
        raise DataError(printable(f"{path}: {fault}")) from None


class Wire(IntEnum):
    """How a field's value is laid out (protobuf.dev/programming-guides/encoding)."""

    VARINT = 0
    FIXED64 = 1
    LENGTH = 2
    GROUP = 3
    GROUP_END = 4
    FIXED32 = 5


_SHOWN = {
    Wire.VARINT: "an integer",
    Wire.FIXED64: "64-bit numbers",
    Wire.LENGTH: "a text, a message or a packed list",
    Wire.FIXED32: "32-bit numbers",
}
_FIXED = {Wire.FIXED64: 8, Wire.FIXED32: 4}


class Field(NamedTuple):
    """A field as it is framed: where it begins, and where its value begins and ends.

    Fixed-width fields of one number that follow each other without a gap are one field, whose
    records begin at `at`, each as long as the first.
    """

    wire: Wire
    at: int
    start: int
    end: int
    value: int = 0
    """A varint's value, unsigned."""


class _Budget:
    """How many more fields a message and its parts may have."""

    def __init__(self, left: int) -> None:
        self.left = left


class Message:
    """The fields of one message, framed when it is made and decoded when they are asked for.

    Nothing is copied, and nothing is allocated by a length that was not compared with the bytes
    there. Every fault is a WireError.
    """

    def __init__(
        self,
        content: Buffer,
        *,
        path: str = "",
        _at: int = 0,
        _budget: _Budget | None = None,
    ) -> None:
        self._content = memoryview(content).cast("B")
        self._at = _at
        self._budget = _budget or _Budget(MAX_FIELDS)
        self.path = path
        self._fields: dict[int, list[Field]] = {}
        self._frame()

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
        """A string; bytes that are not UTF-8 are shown as escapes, which no net's name has."""
        return _text(self.content(number))

    def texts(self, number: int) -> tuple[str, ...]:
        """The strings of a repeated field."""
        found = self._of(number, Wire.LENGTH)
        return tuple(_text(self._content[field.start : field.end]) for field in found)

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
        """A fault of this message, or of one of its fields that is there."""
        fields = self._fields.get(number, []) if number is not None else []
        return self._fault(text, fields[0].at if fields else 0)

    def _fault(self, text: str, position: int) -> WireError:
        return WireError(text, self._at + position, self.path)

    def _frame(self) -> None:
        position, end = 0, len(self._content)
        while position < end:
            if not self._budget.left:
                raise self._fault(f"more than {MAX_FIELDS:,} fields", position)
            self._budget.left -= 1
            number, field = self._next(position)
            self._fields.setdefault(number, []).append(field)
            position = field.end

    def _next(self, at: int) -> tuple[int, Field]:
        """The number and the frame of the field that begins at a position."""
        tag, start = self._varint(at)
        number, wire = tag >> 3, tag & 7
        if not 0 < number <= _MAX_NUMBER:
            raise self._fault(f"no field has the number {number}", at)
        if wire == Wire.VARINT:
            value, end = self._varint(start)
            return number, Field(Wire.VARINT, at, start, end, value)
        if wire == Wire.LENGTH:
            length, start = self._varint(start)
            if length > len(self._content) - start:
                left = len(self._content) - start
                text = f"field {number} has {length:,} bytes by its length, {left:,} are there"
                raise self._fault(text, at)
            return number, Field(Wire.LENGTH, at, start, start + length)
        if wire not in _FIXED:
            what = "a group, which" if wire in (Wire.GROUP, Wire.GROUP_END) else f"of type {wire}:"
            raise self._fault(f"field {number} is {what} is not read", at)
        return number, self._run(Wire(wire), at, start)

    def _run(self, wire: Wire, at: int, start: int) -> Field:
        """A fixed-width field, with those of the same one-byte tag right behind it."""
        content, end = self._content, start + _FIXED[wire]
        if end > len(content):
            text = f"{_FIXED[wire]} bytes are due, {len(content) - start} are there"
            raise self._fault(f"truncated: {text}", start)
        stride = end - at
        records, heads = (len(content) - at) // stride, content[at::stride]
        count = 1
        if start - at == 1 and records > 1 and heads[1] == heads[0]:
            count, step = 2, 64
            while count < records:
                differ = np.asarray(heads[count : min(count + step, records)]) != heads[0]
                if differ.any():
                    count += int(differ.argmax())
                    break
                count, step = min(count + step, records), 2 * step
        return Field(wire, at, start, at + count * stride)

    def _varint(self, at: int) -> tuple[int, int]:
        """An unsigned integer, and where it ends."""
        value, content = 0, self._content
        for i in range(min(_VARINT, len(content) - at)):
            octet = content[at + i]
            value |= (octet & 0x7F) << 7 * i
            if octet < 0x80:
                if value >> 64:
                    raise self._fault("an integer of more than 64 bits", at)
                return value, at + i + 1
        if len(content) - at < _VARINT:
            raise self._fault("truncated within an integer", at)
        raise self._fault(f"an integer of more than {_VARINT} bytes", at)

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
        ends = np.flatnonzero(octets < 0x80)
        if octets.size and octets[-1] >= 0x80:
            raise self._fault("truncated within an integer", field.end)
        starts = np.concatenate([[0], ends[:-1] + 1])[: ends.size]
        lengths = ends - starts + 1
        values = np.zeros(ends.size, np.uint64)
        longest = int(lengths.max(initial=0))
        for k in range(min(longest, _VARINT)):
            live = lengths > k
            bits = (octets[starts[live] + k] & 0x7F).astype(np.uint64)
            values[live] |= bits << np.uint64(7 * k)
        if longest > _VARINT or (octets[ends[lengths == _VARINT]] > 1).any():
            at = field.start + int(starts[lengths.argmax()])
            raise self._fault("an integer of more than 64 bits", at)
        return values.view(np.int64)


def _text(octets: memoryview) -> str:
    return str(octets, "utf-8", "backslashreplace")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


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
