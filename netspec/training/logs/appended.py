"""Files that only grow, by whole pieces: a full disk costs a warning and no training."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from netspec.diagnostics import DataError


class Growing:
    """A file that only grows; a fault of the disk is told once, and passed over."""

    def __init__(self, path: Path, size: int, warn: Callable[[str], None]) -> None:
        """`size` is how much of what is there counts: the rest was torn or is undone."""
        self.path = path
        self._size = size
        self._warn = warn
        self._warned = False
        self._attempt(self._cut)

    def sync(self) -> None:
        """Bring all to the disk, what is held too: a checkpoint that survives should find it."""
        self._attempt(self._flush)

    def _write(self) -> None:
        """Write what is held, if anything is."""
        raise NotImplementedError

    def _flush(self) -> None:
        self._write()
        with suppress(FileNotFoundError):  # the first piece may be yet to come
            _sync(self.path)

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (OSError, DataError) as fault:
            if not self._warned:
                self._warned = True  # before the warning, which may come to be a piece itself
                reason = getattr(fault, "strerror", None) or str(fault)
                self._warn(f"{self.path}: the log is behind, training goes on: {reason}")

    def _cut(self) -> None:
        """Undo what was torn, by a crash or by a full disk."""
        if self.path.exists() and self.path.stat().st_size > self._size:
            os.truncate(self.path, self._size)

    def _add(self, piece: bytes) -> None:
        _append(self.path, piece)
        self._size += len(piece)


class Appended(Growing):
    """A file to which pieces are added.

    A piece that could not be written is held, and is written when there is room; what was written
    of it is cut off again first.
    """

    def __init__(self, path: Path, size: int, warn: Callable[[str], None]) -> None:
        self._held = b""  # first: a warning may come to be a piece
        super().__init__(path, size, warn)

    def append(self, piece: bytes) -> None:
        """Add a piece, behind those that are held."""
        self._held += piece
        self._attempt(self._write)

    def cut(self, size: int) -> None:
        """Undo what is behind so many bytes, and what is held."""
        self._size, self._held = size, b""
        self._attempt(self._cut)

    def _write(self) -> None:
        if not self._held:
            return
        self._cut()
        self._add(self._held)
        self._held = b""


def _append(path: Path, text: bytes) -> None:
    """Add to a file, which is made if it is not there."""
    flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        while text:
            text = text[os.write(descriptor, text) :]
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    """Bring a file to the disk."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
