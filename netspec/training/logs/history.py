"""What the events of a training come to: curves, the latest test, the time, how it ended."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from netspec.report.curve import Curve
from netspec.training.logs.events import (
    Event,
    Failed,
    Finished,
    Norms,
    Number,
    Resumed,
    RolledBack,
    Row,
    Skipped,
    Started,
    Stopped,
    Tested,
    Warned,
)

_WARNINGS = 20
"""How many warnings are kept, the first ones."""


class History:
    """Grows with each event; how much it holds does not hang on how many there are."""

    def __init__(self, metrics: Collection[str] = (), events: Iterable[Event] = ()) -> None:
        """`metrics` are the names of values that are shares of 1, of which more is better."""
        self.metrics = frozenset(metrics)
        self.train: dict[str, Curve] = {}
        """Means between rows, by name, over epochs."""
        self.test: dict[str, Curve] = {}
        """By name, over epochs."""
        self.rate = Curve()
        """The learning rate."""
        self.norms: list[Norms] = []
        """The first ones, and the latest."""
        self.tested: Tested | None = None
        """The latest test."""
        self.best: dict[str, tuple[float, int]] = {}
        """The lowest of each loss, the highest of each metric, and after which iteration."""
        self.warnings: list[str] = []
        self.skipped = 0
        """Updates left out."""
        self.length = 0
        """Iterations in all."""
        self.seconds = 0.0
        """Of training, without the time in which nobody trained."""
        self.speed = 0.0
        """Iterations a second since the training began or went on."""
        self.last: Event | None = None
        """The latest event that is no warning, which may come after the end."""
        self._begun: Event | None = None
        self._before = 0.0
        for event in events:
            self.add(event)

    @property
    def state(self) -> str:
        """`training`, `finished`, `stopped` or `failed`."""
        ends = (Finished, Stopped, Failed)
        return type(self.last).__name__.lower() if isinstance(self.last, ends) else "training"

    def add(self, event: Event) -> None:
        """The next event."""
        if isinstance(event, Started | Resumed):
            self.length = event.length
            self._begun, self._before = event, self.seconds
        elif isinstance(event, Row):
            self.rate.add(event.epoch, event.lr)
            _add(self.train, event.epoch, event.train)
        elif isinstance(event, Tested):
            self.tested = event
            _add(self.test, event.epoch, event.test)
            self._note_best(event)
        elif isinstance(event, Norms):
            self.norms = [*self.norms[:1], event]
        elif isinstance(event, RolledBack):
            self.warnings.append(f"back from iteration {event.diverged:,}: {event.message}")
        elif isinstance(event, Skipped):
            self.skipped += 1
        elif isinstance(event, Warned) and len(self.warnings) < _WARNINGS:
            self.warnings.append(event.message)
        self._count(event)
        if not isinstance(event, Warned):
            self.last = event

    def _count(self, event: Event) -> None:
        """Time since the training began or went on; a clock that was put back counts as none."""
        if self._begun is None:
            return
        since = max(event.time - self._begun.time, 0.0)
        self.seconds = max(self._before + since, self.seconds)
        if since and event.iteration > self._begun.iteration:
            self.speed = (event.iteration - self._begun.iteration) / since

    def _note_best(self, event: Tested) -> None:
        for name, value in event.test.items():
            if value is None:
                continue
            best = self.best.get(name)
            if best is None or (value > best[0] if name in self.metrics else value < best[0]):
                self.best[name] = (value, event.iteration)


def _add(curves: dict[str, Curve], epoch: float, values: dict[str, Number]) -> None:
    for name, value in values.items():
        curves.setdefault(name, Curve()).add(epoch, value)
