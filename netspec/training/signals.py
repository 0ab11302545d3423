"""Signals that end a training at the next safe place."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, TypeVar

Result = TypeVar("Result")


class CutShort(Exception):
    """A signal came between the batches of an iteration, which is not done and changed nothing."""


def never() -> bool:
    """Nobody wishes to stop."""
    return False


class _Abandoned(BaseException):
    """A signal cut work short."""


_HEEDED = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
]
"""SIGUSR1 is what Slurm can be told to send before the time is over; Windows lacks it."""


class Signals:
    """SIGINT, SIGTERM and SIGUSR1 as a wish to stop, while this is entered in the main thread.

    A second one raises KeyboardInterrupt where it falls.
    """

    def __init__(self) -> None:
        self.stop = False
        """Whether one came."""
        self._abandonable = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in _HEEDED:
                if signal.getsignal(number) is not signal.SIG_IGN:  # nohup and `&` mean it
                    self._previous[number] = signal.signal(number, self._heed)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def abandoning(self, work: Callable[[], Result]) -> Result | None:
        """What `work` gives, or None if a signal came: a test may take longer than a stop may."""
        try:
            self._abandonable = True
            try:
                return None if self.stop else work()
            finally:
                self._abandonable = False
        except _Abandoned:
            return None

    def _heed(self, _number: int, _frame: FrameType | None) -> None:
        if self.stop:
            self.__exit__(None, None, None)
            raise KeyboardInterrupt
        self.stop = True
        if self._abandonable:
            raise _Abandoned
