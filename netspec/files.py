"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from netspec.diagnostics import NetspecError


def write_file(target: Path, data: bytes) -> None:
    """Write beside, flush, rename: a reader never sees half a file; NetspecError if it fails."""
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise NetspecError(f"{target}: {error.strerror or error}") from None
