"""What is wrong with bytes that should be a message, and where."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from netspec.diagnostics import DataError, printable


class WireError(ValueError):
    """Bytes that are no message, or not the one expected.

    `offset` is where, from the start of the file; `path` is the message's, `layer[3].blobs[0]`.
    """

    def __init__(self, message: str, offset: int, path: str = "") -> None:
        super().__init__(f"byte {offset}: {path}{': ' if path else ''}{message}")
        self.offset = offset


Fault: TypeAlias = Callable[[str, int], WireError]
"""Makes the fault of a message from its words and its place within the message."""


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Makes of a WireError inside a DataError that names the file."""
    try:
        yield
    except WireError as fault:
        raise DataError(printable(f"{path}: {fault}")) from None
