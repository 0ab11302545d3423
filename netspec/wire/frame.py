"""A message's fields as they are framed: which bytes are whose, before any is decoded."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple, TypeAlias

import numpy as np

from netspec.wire.fault import Fault

MAX_FIELDS = 200_000
"""The most fields of a message with all its parts; a run of equal unpacked numbers counts once."""

VARINT_BYTES = 10
"""The most bytes of a varint: 64 bits, seven in each."""

_MAX_NUMBER = (1 << 29) - 1

Buffer: TypeAlias = bytes | bytearray | memoryview


class Wire(IntEnum):
    """How a field's value is laid out (protobuf.dev/programming-guides/encoding)."""

    VARINT = 0
    FIXED64 = 1
    LENGTH = 2
    GROUP = 3
    GROUP_END = 4
    FIXED32 = 5


_FIXED = {Wire.FIXED64: 8, Wire.FIXED32: 4}


class Field(NamedTuple):
    """Where a field begins, and where its value begins and ends.

    Fixed-width fields of one number that follow each other without a gap are one field, whose
    records begin at `at`, each as long as the first.
    """

    wire: Wire
    at: int
    start: int
    end: int
    value: int = 0
    """A varint's value, unsigned."""


class Budget:
    """How many more fields a message and its parts may have."""

    def __init__(self) -> None:
        self.most = self.left = MAX_FIELDS


def frame(content: memoryview, fault: Fault, budget: Budget) -> dict[int, list[Field]]:
    """The fields of a message by their numbers."""
    fields: dict[int, list[Field]] = {}
    position, end = 0, len(content)
    while position < end:
        if not budget.left:
            raise fault(f"more than {budget.most:,} fields", position)
        budget.left -= 1
        number, field = _next(content, position, fault)
        fields.setdefault(number, []).append(field)
        position = field.end
    return fields


def _next(content: memoryview, at: int, fault: Fault) -> tuple[int, Field]:
    """The number and the frame of the field that begins at a position."""
    tag, start = _varint(content, at, fault)
    number, wire = tag >> 3, tag & 7
    if not 0 < number <= _MAX_NUMBER:
        raise fault(f"no field has the number {number}", at)
    if wire == Wire.VARINT:
        value, end = _varint(content, start, fault)
        return number, Field(Wire.VARINT, at, start, end, value)
    if wire == Wire.LENGTH:
        length, start = _varint(content, start, fault)
        left = len(content) - start
        if length > left:
            text = f"field {number} has {length:,} bytes by its length, {left:,} are there"
            raise fault(text, at)
        return number, Field(Wire.LENGTH, at, start, start + length)
    if wire not in _FIXED:
        known = wire in (Wire.GROUP, Wire.GROUP_END)
        what = "is a group, which is not read" if known else f"has the unknown type {wire}"
        raise fault(f"field {number} {what}", at)
    return number, _run(content, Wire(wire), at, start, fault)


def _run(content: memoryview, wire: Wire, at: int, start: int, fault: Fault) -> Field:
    """A fixed-width field, with those of the same one-byte tag right behind it."""
    width = _FIXED[wire]
    if start + width > len(content):
        raise fault(f"truncated: {width} bytes are due, {len(content) - start} are there", start)
    stride = start - at + width
    heads = content[at::stride][: (len(content) - at) // stride]
    count = 1
    if start - at == 1 and len(heads) > 1 and heads[1] == heads[0]:
        count = _alike(heads)
    return Field(wire, at, start, at + count * stride)


def _alike(heads: memoryview) -> int:
    """How many of the first bytes are equal; looked at in pieces, each twice as long."""
    count, step = 1, 64
    while count < len(heads):
        differ = np.asarray(heads[count : count + step]) != heads[0]
        if differ.any():
            return count + int(differ.argmax())
        count, step = count + differ.size, 2 * step
    return count


def _varint(content: memoryview, at: int, fault: Fault) -> tuple[int, int]:
    """An unsigned integer, and where it ends."""
    value = 0
    for i in range(min(VARINT_BYTES, len(content) - at)):
        octet = content[at + i]
        value |= (octet & 0x7F) << 7 * i
        if octet < 0x80:
            if value >> 64:
                raise fault("an integer of more than 64 bits", at)
            return value, at + i + 1
    if len(content) - at < VARINT_BYTES:
        raise fault("truncated within an integer", at)
    raise fault(f"an integer of more than {VARINT_BYTES} bytes", at)
