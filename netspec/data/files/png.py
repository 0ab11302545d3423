"""Checks that a PNG is whole: Pillow silently leaves missing rows black."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from netspec.data.file import fault

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Values of a pixel by colour type (PNG specification, table 11.1)."""

_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
          (0, 1, 1, 2))  # fmt: skip
"""First column, first row and steps of the passes of an interlaced image (section 8.2)."""

_SLICE = 1 << 16


def check_png(path: Path | str, data: bytes) -> None:
    """Raise DataError unless every chunk's checksum holds and the rows are all there.

    `data` is the file's content, `path` its name for the message. Pixels are counted, not kept.
    """
    header = b""
    pixels = []
    for offset, kind, body in _chunks(path, data):
        if not header and (kind != b"IHDR" or len(body) != 13):
            raise fault(path, f"byte {offset}: PNG begins with {kind!r}, not with its header")
        if kind == b"IHDR":
            if header:
                raise fault(path, f"byte {offset}: a second PNG header")
            header = body.tobytes()
        if kind == b"IDAT":
            pixels.append(body)
    expected = _unpacked_size(path, header)
    found = _inflated_size(path, pixels, expected)
    if found != expected:
        few = "rows are missing: " if found < expected else ""
        count = f"{found:,}" if found < expected else "more"
        raise fault(
            path, f"PNG {few}the header declares {expected:,} bytes of pixels, found {count}"
        )


def _chunks(path: Path | str, data: bytes) -> Iterator[tuple[int, bytes, memoryview]]:
    """Offset, type and body of every chunk up to the end mark, its checksum verified."""
    view = memoryview(data)
    offset = len(SIGNATURE)
    kind = b""
    while kind != b"IEND":
        if offset + 12 > len(data):
            raise fault(path, f"byte {len(data)}: PNG truncated, no end mark")
        length, kind = struct.unpack_from(">I4s", data, offset)
        end = offset + 8 + length
        if end + 4 > len(data):
            raise fault(path, f"byte {offset}: PNG truncated, chunk {kind!r} has {length:,} bytes")
        (stated,) = struct.unpack_from(">I", data, end)
        if zlib.crc32(view[offset + 4 : end]) != stated:
            raise fault(
                path, f"byte {offset}: PNG damaged, checksum of chunk {kind!r} does not hold"
            )
        yield offset, kind, view[offset + 8 : end]
        offset = end + 4


def _unpacked_size(path: Path | str, header: bytes) -> int:
    """Bytes of all rows, each with its filter byte."""
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    if colour not in _CHANNELS:
        raise fault(path, f"byte 25: PNG colour type {colour} does not exist")
    bits = _CHANNELS[colour] * depth
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    total = 0
    for x, y, across, down in passes:
        columns = max(0, -(-(width - x) // across))
        rows = max(0, -(-(height - y) // down))
        total += rows * (1 + -(-columns * bits // 8)) if columns else 0
    return total


def _inflated_size(path: Path | str, pixels: list[memoryview], expected: int) -> int:
    """How many bytes the pixels unpack to, or `expected` + 1 if they are more."""
    inflate = zlib.decompressobj()
    found = 0
    try:
        for body in pixels:
            for start in range(0, len(body), _SLICE):
                room = expected + 1 - found
                found += len(inflate.decompress(body[start : start + _SLICE], room))
                if found > expected:
                    return found
    except zlib.error as e:
        raise fault(path, f"PNG damaged: {e}") from None
    if found == expected and not inflate.eof:
        raise fault(path, "PNG truncated: the packed pixels lack their end")
    return found
