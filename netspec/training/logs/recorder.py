"""Turns what a training tells into events: for `events.jsonl`, and for whoever else hears them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from netspec.training.listener import Listener
from netspec.training.logs import events
from netspec.training.logs.appended import Appended
from netspec.training.logs.events import Event, Norm, line
from netspec.training.outcome import Outcome
from netspec.training.outcome import Stopped as Stop

Hears = Callable[[Event], None]


class Recorder(Listener):
    """Writes each event, then passes it on to those who hear it."""

    def __init__(
        self,
        file: Appended,
        epoch: Callable[[int], float],
        begin: Callable[..., Event],
        hears: Sequence[Hears] = (),
        *,
        iteration: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`begin` makes the first event, and `iteration` are done before it."""
        self._file = file
        self._epoch = epoch
        self._begin = begin
        self._hears = hears
        self._iteration = iteration
        self._clock = clock
        self._begun = False
        self._early: list[str] = []

    def started(self, iteration: int, length: int, run: Path) -> None:
        self._begun = True
        self._note(self._begin, iteration, length=length)
        for message in self._early:
            self.warned(message)

    def progressed(self, iteration: int, loss: float, rate: float) -> None:
        self._iteration = iteration

    def skipped(self, iteration: int) -> None:
        self._note(events.Skipped, iteration)

    def recorded(
        self, iteration: int, epoch: float, rate: float, train: Mapping[str, float]
    ) -> None:
        self._note(events.Row, iteration, lr=rate, train=dict(train))

    def tested(self, iteration: int, values: Mapping[str, float]) -> None:
        self._note(events.Tested, iteration, test=dict(values))

    def measured(self, iteration: int, parameters: Mapping[str, Norm]) -> None:
        """The norms of a step."""
        self._note(events.Norms, iteration, parameters=dict(parameters))

    def saving(self, iteration: int) -> None:
        self._file.sync()

    def saved(self, iteration: int, path: Path) -> None:
        self._note(events.Saved, iteration, path=f"{path.parent.name}/{path.name}")

    def warned(self, message: str) -> None:
        if self._begun:
            self._note(events.Warned, self._iteration, message=message)
        else:
            self._early.append(message)

    def rolled_back(self, iteration: int, to: int, why: str) -> None:
        self._file.cut(events.kept(self._file.path, to))
        self._iteration = to
        self._note(events.RolledBack, to, diverged=iteration, message=why)

    def finished(self, outcome: Outcome) -> None:
        self._note(
            events.Finished,
            outcome.iterations,
            ran=outcome.ran,
            skipped=outcome.skipped,
            test=outcome.test,
            best=outcome.best,
            best_iteration=outcome.best_iteration,
        )

    def ended(self, fault: BaseException) -> None:
        """The training ended before it was finished; one that was refused had not begun."""
        if not self._begun:
            return
        if isinstance(fault, Stop):
            self._note(events.Stopped, fault.iteration)
        else:
            message = str(fault) or type(fault).__name__
            self._note(events.Failed, self._iteration, message=message)

    def _note(self, kind: Callable[..., Event], iteration: int, **facts: Any) -> None:
        event = kind(iteration=iteration, epoch=self._epoch(iteration), time=self._clock(), **facts)
        self._file.append(line(event))
        for hear in self._hears:
            hear(event)
