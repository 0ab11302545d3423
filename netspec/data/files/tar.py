"""Files in a tar archive, plain or gzip, read where they lie: nothing is unpacked to the disk."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from netspec.data.file import CHUNK, RATIO, Stream, bomb
from netspec.diagnostics import printable

_BLOCK = 512
_FILES = b"\x000"
"""The marks of a plain file; links, devices and the notes of longer formats have others."""

SUFFIXES = (".tar", ".tar.gz", ".tgz")


class Member(NamedTuple):
    """A file of an archive."""

    name: str
    content: bytearray
    offset: int
    """Where it begins in the unpacked archive."""


def read_members(path: Path, wanted: Collection[str]) -> dict[str, Member]:
    """The plain files of the wanted names, in whatever folder, read to the archive's end.

    Headers are those of POSIX's ustar: 512 bytes with name, size and mark, then the content, filled
    up to whole blocks; two blocks of zeros end it. DataError for a name twice, a link of a wanted
    name, a damaged header, or what unpacks to far more than the file holds.
    """
    found: dict[str, Member] = {}
    with Stream(path) as stream:
        for name, mark, count in _headers(stream):
            base = PurePosixPath(name).name
            if base in wanted:
                if mark not in _FILES:
                    raise stream.fault(f"`{printable(name)}` is no plain file")
                if base in found:
                    raise stream.fault(f"a second `{base}`: `{printable(name)}`")
                content = stream.take(count, f"`{printable(name)}`")
                found[base] = Member(name, content, stream.offset - count)
                _skip(stream, -count % _BLOCK)
            else:
                _skip(stream, count + -count % _BLOCK)
    return found


def _headers(stream: Stream) -> Iterator[tuple[str, bytes, int]]:
    """Name, mark and size of every entry; the stream then stands before its content."""
    while True:
        at = stream.offset
        header = bytes(stream.take(_BLOCK, "a header of the archive"))
        if not any(header):
            stream.zeros("the archive")
            return
        count, stated = _octal(header[124:136]), _octal(header[148:156])
        total = sum(header) - sum(header[148:156]) + 8 * ord(" ")
        if count is None or stated != total:
            raise stream.fault("not a header of a tar archive, or a damaged one", at)
        prefix = _text(header[345:500]) if header[257:262] == b"ustar" else ""
        name = _text(header[:100])
        yield (f"{prefix}/{name}" if prefix else name), header[156:157], count


def _octal(field: bytes) -> int | None:
    digits = field.strip(b" \0")
    if not digits or digits.strip(b"01234567"):
        return None
    return int(digits, 8)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "backslashreplace")


def _skip(stream: Stream, count: int) -> None:
    """Pass over so many bytes, which may be no trap."""
    end = stream.offset + count
    if stream.packed and bomb(stream.path.stat().st_size, end):
        raise stream.fault(f"unpacks to over {RATIO} times the file's size")
    while stream.offset < end:
        stream.take(min(CHUNK, end - stream.offset), "the archive")
