"""The lock that keeps a second writer out of a run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from netspec.diagnostics import DataError, NetspecError, UsageError, printable
from netspec.files import reaching

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


def lock_file(path: Path) -> int:
    """The descriptor of a lock file that this process now holds."""
    with reaching(path):
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as fault:
        os.close(descriptor)
        raise _refused(path, fault) from None
    return descriptor


def _refused(path: Path, fault: OSError) -> NetspecError:
    run = printable(str(path.parent))
    if isinstance(fault, BlockingIOError | PermissionError):
        return UsageError(f"{run}: another process is writing to this run")
    return DataError(f"{run}: this file system cannot lock the run: {fault.strerror}")
