"""Reads from plain and gzip files exactly what their headers declare, and words what is wrong."""

from __future__ import annotations

import gzip
import os
import stat
import zlib
from pathlib import Path
from types import TracebackType
from typing import IO

from netspec.diagnostics import DataError, printable

CHUNK = 1 << 20
"""Bytes read at once: memory grows with what is there, not with what is declared."""

FREE = 64 << 20
"""Bytes that any compressed file may unpack to."""

RATIO = 200
"""Beyond FREE, how many times its own size a compressed file may unpack to."""


def fault(path: Path | str, message: str) -> DataError:
    """A DataError that names the file."""
    return DataError(printable(f"{path}: {message}"))


def open_regular(path: Path) -> IO[bytes]:
    """Open a file for reading; a folder, pipe or device is a fault, and never waited for."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as e:
        kind = "is a folder, not a file" if path.is_dir() else f"cannot be read: {e.strerror}"
        raise fault(path, kind) from None
    except ValueError:
        raise fault(path, "is not a name that a file can have") from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise fault(path, "is a folder, not a file" if stat.S_ISDIR(mode) else "is not a file")
    return os.fdopen(descriptor, "rb")


def read_whole(path: Path, limit: int) -> bytes:
    """The content of a file of at most `limit` bytes."""
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise fault(path, f"is over {limit >> 20} MiB")
        try:
            return file.read()
        except OSError as e:
            raise fault(path, f"cannot be read: {e.strerror}") from None


def bomb(packed: int, unpacked: int) -> bool:
    """Whether so many bytes out of so few are a trap rather than data."""
    return unpacked > FREE and unpacked > RATIO * packed


class Stream:
    """The bytes of a file, unpacked if it is gzip, taken in pieces of known length.

    Offsets are those of the unpacked bytes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0
        self._raw = open_regular(path)
        self._size = os.fstat(self._raw.fileno()).st_size
        self.packed = self._raw.read(2) == b"\x1f\x8b"
        self._raw.seek(0)
        self._bytes: IO[bytes] = self._raw
        if self.packed:
            self._bytes = gzip.GzipFile(fileobj=self._raw, mode="rb")  # type: ignore[assignment]

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._bytes.close()
        self._raw.close()

    def fault(self, message: str, at: int | None = None) -> DataError:
        """A DataError that names the file and the offset, unless given that of the next byte."""
        where = " of the unpacked data" if self.packed else ""
        return fault(self.path, f"byte {self.offset if at is None else at}{where}: {message}")

    def take(self, count: int, what: str) -> bytearray:
        """The next `count` bytes, which are `what`; fewer are a fault."""
        self._afford(count, what)
        block = bytearray()
        while len(block) < count:
            piece = self._read(min(CHUNK, count - len(block)), self.offset + len(block))
            if not piece:
                raise self._truncated(count, what, len(block))
            block += piece
        self.offset += count
        return block

    def end(self, what: str) -> None:
        """Check that nothing follows, and with it gzip's checksum."""
        if self._read(1, self.offset):
            raise self.fault(f"the file goes on after {what}")

    def zeros(self, what: str) -> None:
        """Check that nothing but zeros follows, and with it gzip's checksum."""
        while piece := self._read(CHUNK, self.offset):
            if piece.strip(b"\0"):
                at = self.offset + len(piece) - len(piece.lstrip(b"\0"))
                raise self.fault(f"the file goes on after {what}", at)
            self.offset += len(piece)
            if self.packed and bomb(self._size, self.offset):
                raise self.fault(f"unpacks to over {RATIO} times the file's size")

    def _afford(self, count: int, what: str) -> None:
        left = self._size - self.offset
        if not self.packed and count > left:
            raise self._truncated(count, what, left)
        if self.packed and bomb(self._size, count):
            raise self.fault(
                f"{what} take {count:,} bytes by the header, over {RATIO} times the {self._size:,} "
                "of the file; unpack it first if that is right"
            )

    def _truncated(self, count: int, what: str, there: int) -> DataError:
        return self.fault(
            f"truncated: {what} take {count:,} bytes from byte {self.offset}, {there:,} are there",
            self.offset + there,
        )

    def _read(self, count: int, at: int) -> bytes:
        try:
            return self._bytes.read(count)
        except EOFError:
            raise self.fault("truncated: the gzip file ends before its data do", at) from None
        except (OSError, zlib.error) as e:
            raise self.fault(f"damaged: {e}", at) from None
