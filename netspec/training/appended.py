"""Files that only grow, by whole pieces: a full disk costs a warning and no training."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


class Appended:
    """A file to which pieces are added.

    A piece that could not be written is held, and is written when there is room; what was written
    of it is cut off again first.
    """

    def __init__(self, path: Path, size: int, warn: Callable[[str], None]) -> None:
        """`size` is how much of what is there counts: the rest was torn or is undone."""
        self.path = path
        self._size = size
        self._warn = warn
        self._warned = False
        self._held = b""
        self._attempt(self._cut)

    def append(self, piece: bytes) -> None:
        """Add a piece, behind those that are held."""
        self._held += piece
        self._attempt(self._write)

    def cut(self, size: int) -> None:
        """Undo what is behind so many bytes, and what is held."""
        self._size, self._held = size, b""
        self._attempt(self._cut)

    def sync(self) -> None:
        """Bring what is written to the disk."""
        if self.path.exists():  # the first piece may be yet to come
            self._attempt(lambda: sync(self.path))

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError as fault:
            if not self._warned:
                self._warned = True  # before the warning, which may come to be a piece itself
                reason = fault.strerror or str(fault)
                self._warn(f"{self.path}: the log is behind, training goes on: {reason}")

    def _cut(self) -> None:
        if self.path.exists() and self.path.stat().st_size > self._size:
            os.truncate(self.path, self._size)

    def _write(self) -> None:
        self._cut()
        append(self.path, self._held)
        self._size += len(self._held)
        self._held = b""


def append(path: Path, text: bytes) -> None:
    """Add to a file, which is made if it is not there."""
    flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        while text:
            text = text[os.write(descriptor, text) :]
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Bring a file to the disk."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
