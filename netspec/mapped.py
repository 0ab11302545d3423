"""A file's bytes, mapped into memory rather than copied."""

from __future__ import annotations

import mmap
import os
import stat
from pathlib import Path

from netspec.diagnostics import DataError, printable


def map_file(path: Path) -> memoryview:
    """The bytes of a regular file, read-only, there for as long as something refers to them.

    Raises DataError; a folder, a pipe or a device is a fault, and never waited for.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as fault:
        reason = "is a folder, not a file" if path.is_dir() else f"cannot be read: {fault.strerror}"
        raise _fault(path, reason) from None
    except ValueError:
        raise _fault(path, "is not a name that a file can have") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _fault(path, "is not a regular file")
        if not found.st_size:
            raise _fault(path, "is empty")
        return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
    except OSError as fault:
        raise _fault(path, f"cannot be read: {fault.strerror}") from None
    finally:
        os.close(descriptor)


def _fault(path: Path, reason: str) -> DataError:
    return DataError(printable(f"{path}: {reason}"))
