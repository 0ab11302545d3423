"""Files that a crash leaves as they were or are to be; faults of the file system as DataErrors."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

from netspec.diagnostics import DataError, printable

_MARGIN = 1 << 20
"""Bytes left free on the disk, for the file system's own and for a log."""


def write_durably(path: Path, chunks: Sequence[Any]) -> None:
    """Replace a file by contiguous buffers of bytes so that a crash leaves the old or the new.

    Beside it, flushed, renamed, and the folder flushed: a rename that reaches the disk before the
    bytes do would leave an empty file under the good name. A link stays one, and a file that is
    replaced hands on its permissions. Raises DataError.
    """
    _replace(path, chunks, _bytes(chunks), flush=True)


def write_atomically(path: Path, chunks: Sequence[Any]) -> None:
    """The same for what can be made again: nothing is flushed, so that a power cut may lose it."""
    _replace(path, chunks, _bytes(chunks), flush=False)


def stream_durably(path: Path, chunks: Iterable[Any], size: int) -> None:
    """What `write_durably` does with buffers that are made as they are written.

    `size` is what they will take in all, about: there must be room for it.
    """
    _replace(path, chunks, size, flush=True)


def _bytes(chunks: Sequence[Any]) -> int:
    return sum(memoryview(chunk).nbytes for chunk in chunks)


def _replace(path: Path, chunks: Iterable[Any], size: int, *, flush: bool) -> None:
    shown, path = path, path.resolve()
    temporary = path.with_name(f".{path.name}.{token_hex(4)}.tmp")
    placed = False
    try:
        _make_room(path, size)
        _write(temporary, chunks, flush=flush)
        with suppress(FileNotFoundError):
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
        placed = True
        if flush:
            _sync_folder(path.parent)
    except BaseException as fault:
        with suppress(OSError):
            os.unlink(temporary)
        if isinstance(fault, OSError):
            what = "is written, but a power cut may lose it" if placed else "cannot be written"
            kept = "; what was there is kept" if not placed and os.path.lexists(path) else ""
            reason = f"{what}: {fault.strerror or fault}{kept}"
            raise DataError(f"{printable(str(shown))}: {reason}") from None
        raise


def remove_orphans(folder: Path) -> None:
    """Delete what a killed writer left behind; only for who holds the run's lock."""
    with suppress(OSError):  # they harm nobody
        for orphan in folder.glob(".*.tmp"):
            with suppress(OSError):
                orphan.unlink()


def _make_room(path: Path, size: int) -> None:
    total, _, free = shutil.disk_usage(path.parent)
    if total and free < size + _MARGIN:  # a file system that does not tell says 0
        needs = f"needs {(size + _MARGIN) / 1e6:.2f} MB, and {free / 1e6:.2f} MB are free"
        kept = "; what was there is kept" if path.exists() else ""
        raise DataError(f"{printable(str(path))}: {needs}{kept}")


def _write(path: Path, chunks: Iterable[Any], *, flush: bool) -> None:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        for chunk in chunks:
            rest = memoryview(chunk)
            while rest.nbytes:
                rest = rest[os.write(descriptor, rest) :]
        if flush:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # a folder cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def reaching(path: Path, what: str = "made") -> Iterator[None]:
    """Let a fault of the file system say which path it is about, as a DataError."""
    try:
        yield
    except OSError as fault:
        reason = f"cannot be {what}: {fault.strerror or fault}"
        raise DataError(f"{printable(str(path))}: {reason}") from None


@contextmanager
def naming() -> Iterator[None]:
    """Let a fault of the file system be a DataError, if it says which path it is about."""
    try:
        yield
    except OSError as fault:
        if fault.filename is None:
            raise
        raise DataError(f"{printable(str(fault.filename))}: {fault.strerror}") from fault
