"""Several listeners to one training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from netspec.training.listener import Listener


class Listeners(Listener):
    """Tells each of its listeners what it is told.

    One that joins later is told the warnings so far: a run's logs begin only with its folder.
    """

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = list(listeners)
        self._warnings: list[str] = []

    def join(self, listener: Listener) -> None:
        """Add a listener, which hears what comes from now on."""
        for message in self._warnings:
            listener.warned(message)
        self._listeners.append(listener)

    def warned(self, message: str) -> None:
        self._warnings.append(message)
        self._tell("warned", message)

    def _tell(self, what: str, *facts: Any) -> None:
        for listener in self._listeners:
            getattr(listener, what)(*facts)


def _telling(what: str) -> Callable[..., None]:
    return lambda self, *facts: self._tell(what, *facts)


for _what in vars(Listener):
    if not _what.startswith("_") and _what not in vars(Listeners):
        setattr(Listeners, _what, _telling(_what))
