"""A new run that fails before its first step: nothing is worth keeping of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from netspec.training.listener import Listener
from netspec.training.listeners import Listeners
from netspec.training.outcome import Stopped
from netspec.training.runs.run import Run


class _Steps(Listener):
    """Whether there was any."""

    def __init__(self) -> None:
        self.any = False

    def progressed(self, iteration: int, loss: float, rate: float) -> None:  # noqa: ARG002
        self.any = True


@contextmanager
def discarded_unless_begun(run: Run, listeners: Listeners) -> Iterator[None]:
    """Within, a new run trains; if it fails, and was not stopped, before a step, its folder goes.

    Else that were the last run, and what is meant to go on with the one before would take it.
    """
    steps = _Steps()
    listeners.join(steps)
    try:
        yield
    except Stopped:
        raise
    except Exception:
        if not steps.any:
            run.discard()
        raise
