"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from netspec.diagnostics import NetspecError


def write_file(target: Path, data: bytes) -> None:
    """Write beside, flush, rename: a reader never sees half a file; NetspecError if it fails.

    A link stays one, and a file that is replaced hands on its permissions.
    """
    target = target.resolve()
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            shutil.copymode(target, beside)
        os.replace(beside, target)
    except OSError as error:
        raise NetspecError(f"{target}: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            beside.unlink()
