"""The wire format: what google.protobuf writes is read, what is written it reads, and lies fail."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netspec.wire import Message, WireError, Writer, frame

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
FLOAT32 = st.floats(width=32, allow_nan=False)


def written(write: Callable[[Writer], object]) -> bytes:
    writer = Writer()
    write(writer)
    whole = b"".join(writer.chunks)
    assert len(whole) == writer.size
    return whole


def varint(value: int) -> bytes:
    return written(lambda w: w.integer(1, value))[1:]


@given(one=INT64, packed=st.lists(INT64), unpacked=st.lists(INT64), doubles=st.lists(st.floats()))
def test_what_protobuf_writes_is_read(
    proto: SimpleNamespace,
    one: int,
    packed: list[int],
    unpacked: list[int],
    doubles: list[float],
) -> None:
    theirs = proto.Numbers(one=one, packed=packed, unpacked=unpacked, doubles=doubles, many=doubles)
    theirs.words.extend(range(len(unpacked)))
    message = Message(theirs.SerializeToString())
    assert message.integer(3) == one
    assert message.integers(1).tolist() == packed
    assert message.integers(2).tolist() == unpacked
    assert message.floats(4).view(np.int32).tolist() == list(range(len(unpacked)))
    for number in (1000, 1001):
        np.testing.assert_array_equal(message.doubles(number), np.array(doubles, np.float64))


@given(one=INT64, packed=st.lists(INT64), name=st.text(), data=st.lists(FLOAT32))
def test_what_is_written_protobuf_reads(
    proto: SimpleNamespace, one: int, packed: list[int], name: str, data: list[float]
) -> None:
    def numbers(writer: Writer) -> None:
        writer.integer(3, one)
        writer.integers(1, packed)

    def layer(writer: Writer) -> None:
        blob = Writer()
        blob.floats(5, np.array(data, np.float32))
        writer.text(1, name)
        writer.message(7, blob)

    theirs = proto.Numbers.FromString(written(numbers))
    assert theirs.one == one
    assert list(theirs.packed) == packed
    read = proto.LayerParameter.FromString(written(layer))
    assert read.name == name
    assert list(read.blobs[0].data) == data


def test_packed_and_unpacked_pieces_are_one_list() -> None:
    packed = b"\x2a\x08" + struct.pack("<2f", 1, 2)
    unpacked = b"".join(b"\x2d" + struct.pack("<f", x) for x in (3, 4, 5))
    other = b"\x08\x07"
    message = Message(packed + unpacked + other + unpacked[:5] + packed)
    assert message.floats(5).tolist() == [1, 2, 3, 4, 5, 3, 1, 2]
    assert message.integer(1) == 7


@pytest.mark.parametrize("count", [1, 2, 3, 63, 64, 65, 66, 67, 129, 1000])
def test_a_run_of_unpacked_numbers_ends_where_it_ends(count: int) -> None:
    run = b"".join(b"\x2d" + struct.pack("<f", i) for i in range(count))
    message = Message(run + b"\x35" + struct.pack("<f", -1) + run)
    assert message.floats(5).tolist() == 2 * list(range(count))
    assert message.floats(6).tolist() == [-1]


def test_numbers_in_one_piece_are_not_copied() -> None:
    held = bytearray(b"\x2a\x08" + struct.pack("<2f", 1, 2))
    message = Message(held)
    floats = message.floats(5)
    held[2:6] = struct.pack("<f", 7)
    assert floats.tolist() == [7, 2]


def test_the_last_of_a_single_field_counts() -> None:
    message = Message(b"\x08\x01\x08\x02" + b"\x12\x01a\x12\x01b")
    assert message.integer(1) == 2
    assert message.text(2) == "b"
    assert not message.has(3)
    assert message.integer(3, 9) == 9


def test_a_name_that_is_not_utf8_is_shown_as_escapes() -> None:
    assert Message(b"\x0a\x02\xff!").text(1) == r"\xff!"


def test_a_text_too_long_for_a_name() -> None:
    with pytest.raises(WireError, match="byte 0: a text of 5,000 bytes"):
        Message(b"\x0a" + varint(5000) + b"a" * 5000).text(1)


def test_faults_name_the_place_from_the_start_of_the_file() -> None:
    blob = b"\x2a\x05\0\0\0\0\0"
    layer = b"\x3a" + varint(len(blob)) + blob
    message = Message(b"\xa2\x06" + varint(len(layer)) + layer)
    (part,) = message.messages(100, "layer")
    (blobs,) = part.messages(7, "blobs")
    with pytest.raises(WireError, match=r"byte 7: layer\[0\].blobs\[0\]: a list of 5 bytes") as e:
        blobs.floats(5)
    assert e.value.offset == 7


READ: dict[str, Callable[[Message], Any]] = {
    "integer": lambda m: m.integer(1),
    "integers": lambda m: m.integers(1),
    "floats": lambda m: m.floats(1),
    "doubles": lambda m: m.doubles(1),
    "content": lambda m: m.content(1),
    "text": lambda m: m.text(1),
    "message": lambda m: m.message(1, "part"),
    "messages": lambda m: list(m.messages(1, "part")),
}

FAULTS = {
    "a tag that ends early": (b"\x80", "byte 0: truncated within an integer"),
    "a value that ends early": (b"\x08\xff", "byte 1: truncated within an integer"),
    "no length": (b"\x0a", "byte 1: truncated within an integer"),
    "a length that lies": (b"\x0a\x05abc", "byte 0: field 1 has 5 bytes by its length, 3 are"),
    "a length of 2^60": (b"\x0a" + varint(1 << 60), "1,152,921,504,606,846,976 bytes by its"),
    "a negative length": (b"\x0a" + varint(-1), "18,446,744,073,709,551,615 bytes by its"),
    "11 bytes": (b"\x08" + b"\x80" * 10 + b"\1", "byte 1: an integer of more than 10 bytes"),
    "65 bits": (b"\x08" + b"\xff" * 9 + b"\2", "byte 1: an integer of more than 64 bits"),
    "a group": (b"\x0b\x0c", "byte 0: field 1 is a group, which is not read"),
    "an end of a group": (b"\x0c", "byte 0: field 1 is a group, which is not read"),
    "wire type 6": (b"\x0e", "byte 0: field 1 has the unknown type 6"),
    "number 0": (b"\x00\x01", "byte 0: no field has the number 0"),
    "number 2^29": (varint(1 << 32) + b"\0", "byte 0: no field has the number 536870912"),
    "half a float": (b"\x0d\0\0", "byte 1: truncated: 4 bytes are due, 2 are there"),
    "half a double": (b"\x09\0\0\0\0", "byte 1: truncated: 8 bytes are due, 4 are there"),
    "half a run": (b"\x0d\0\0\0\0" * 3 + b"\x0d\0", "byte 16: truncated: 4 bytes are due"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_bytes_that_are_no_message(name: str) -> None:
    data, words = FAULTS[name]
    with pytest.raises(WireError) as e:
        Message(data)
    assert words in str(e.value)


WRONG = {
    "integer": b"\x0a\0",
    "integers": b"\x0d\0\0\0\0",
    "floats": b"\x09" + bytes(8),
    "doubles": b"\x0d" + bytes(4),
    "content": b"\x08\1",
    "text": b"\x08\1",
    "message": b"\x08\1",
    "messages": b"\x08\1",
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_field_of_another_type(kind: str) -> None:
    with pytest.raises(WireError, match=r"byte 2: field 1 holds .* where .* is due"):
        READ[kind](Message(b"\x10\0" + WRONG[kind]))


def test_packed_integers_that_lie() -> None:
    for block, words in {
        b"\x80": "byte 3: truncated within an integer",
        b"\1" + b"\x80" * 10 + b"\1": "byte 3: an integer of more than 64 bits",
        b"\1\1" + b"\xff" * 9 + b"\2": "byte 4: an integer of more than 64 bits",
    }.items():
        with pytest.raises(WireError) as e:
            Message(b"\x0a" + varint(len(block)) + block).integers(1)
        assert words in str(e.value)


def test_a_message_given_twice() -> None:
    with pytest.raises(WireError, match="byte 0: `shape` is given 2 times"):
        Message(b"\x0a\0\x0a\0").message(1, "shape")


def test_more_fields_than_anyone_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame, "MAX_FIELDS", 1000)
    Message(b"\x08\1" * 1000)
    with pytest.raises(WireError, match="byte 2000: more than 1,000 fields"):
        Message(b"\x08\1" * 1001)


def test_the_fields_of_all_parts_count_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame, "MAX_FIELDS", 1000)
    part = b"\x08\1" * 333
    message = Message((b"\x0a" + varint(len(part)) + part) * 3)
    with pytest.raises(WireError, match=r"part\[2\]: more than 1,000 fields"):
        list(message.messages(1, "part"))


def test_a_list_of_integers_is_counted_before_it_is_unpacked() -> None:
    block = b"\1" * (8 << 20)
    whole = b"\x0a" + varint(len(block)) + block
    tracemalloc.start()
    with pytest.raises(WireError, match="byte 0: a list of too many integers"):
        Message(whole).integers(1, 32)
    assert tracemalloc.get_traced_memory()[1] < 2 * len(block)
    tracemalloc.stop()


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_fault(data: bytes) -> None:
    try:
        message = Message(data)
    except WireError:
        return
    for read in READ.values():
        try:
            read(message)
        except WireError:
            continue
