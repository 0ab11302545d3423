"""stdout and stderr that may take nothing any more: a reader has left, a disk is full."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from io import TextIOBase
from typing import TextIO, cast


class Stderr(TextIOBase):
    """stderr, but what it does not take costs no training: a full disk, a terminal that is gone."""

    @property
    def _stream(self) -> TextIO:
        """Not what a bar puts in its place, which writes here."""
        return cast(TextIO, getattr(sys.stderr, "rich_proxied_file", sys.stderr))

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def heard(say: Callable[[], None]) -> None:
    """Say it; if stdout takes nothing any more, the training goes on without a word."""
    try:
        say()
        sys.stdout.flush()
    except BrokenPipeError:
        silence(sys.stdout)
    except OSError:  # a full disk, a terminal that is gone: it is said at the end, or never
        pass


def silence(stream: TextIO) -> None:
    """Whoever read it has left, as `head` does, or its disk is full: nothing more to say there."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
