"""Writes a run's page while it trains: within a share of the time, and once more at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from netspec.data import Dataset
from netspec.files import write_atomically
from netspec.ir.layer import Phase
from netspec.ir.net import Net
from netspec.report.summary import Summary, summarise
from netspec.training.events import Event, Failed, Finished, Row, Stopped
from netspec.training.experiment import Experiment
from netspec.training.history import History
from netspec.training.judged import Judged
from netspec.training.predicting import Judge
from netspec.training.report import RunPage
from netspec.training.run import Run

_SHARE = 0.003
"""Of the time, at most, that goes into pages before the end; into judgements, too."""
_PAGE, _JUDGEMENT = 0.03, 0.15
"""Seconds that each may take, before it is known."""

Arrays = Mapping[str, NDArray[Any]]


class Reporter:
    """Hears a training's events, and writes `report.html` where it is worth the time.

    The last page comes at the end. Before, one is written with a row of the log as soon as the one
    before took less than a small share of the time since; the first after ten seconds. Predictions
    of the test samples, which take as long as a test, follow the same rule on their own.
    """

    def __init__(
        self,
        run: Run,
        experiment: Experiment,
        history: History,
        *,
        weights: Callable[[], Arrays],
        judge: Callable[[], Judge],
        warn: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`weights` are those of now; `judge` is made when it is first wanted."""
        self._run = run
        self._nets, self._test = experiment.nets, experiment.test
        self._history = history
        self._weights = weights
        self._make_judge = judge
        self._warn = warn
        self._warned = False
        self._pages, self._judgements = Budget(clock, _PAGE), Budget(clock, _JUDGEMENT)
        self._judged: Judged | None = None

    def hear(self, event: Event) -> None:
        """Take note, and write if it is time."""
        self._history.add(event)
        ended = isinstance(event, Finished | Stopped | Failed)
        if not ended and not (isinstance(event, Row) and self._pages.allows()):
            return
        tested = self._history.tested is not None and self._judgements.allows()
        try:
            self.write(event.iteration, judging=isinstance(event, Finished) or tested)
        except Exception as fault:  # a page is a view: whatever goes wrong, the training goes on
            if not self._warned:
                self._warned = True
                self._warn(f"{self._run.report}: is behind, training goes on: {fault}")

    def write(self, iteration: int, *, judging: bool) -> None:
        """The page of now; DataError if it cannot be written."""
        weights = self._weights()
        if judging and self._test is not None:
            with self._judgements:
                self._judged = self._judgement(self._test, weights, iteration)
        summary = self._summary  # takes time at first, and none when a page is written again
        with self._pages:
            page = RunPage(self._run, self._history, self._net, summary, weights, self._judged)
            write_atomically(self._run.report, [page.html().encode()])

    @property
    def _net(self) -> Net:
        return self._nets.test.net

    @cached_property
    def _summary(self) -> Summary:
        return summarise(self._nets, Phase.TEST, exact=False)

    @cached_property
    def _judge(self) -> Judge:
        return self._make_judge()

    def _judgement(self, test: Dataset, weights: Arrays, iteration: int) -> Judged:
        return Judged.of(self._judge.predictions(weights), iteration, self._net, test)


class Budget:
    """A share of the time for something that is done again and again; within it, it is done."""

    def __init__(self, clock: Callable[[], float], cost: float) -> None:
        """`cost` are the seconds that the first time may take."""
        self._clock = clock
        self._cost = cost
        self._begun = self._ended = clock()

    def allows(self) -> bool:
        """Whether what it took the last time is little beside the time since."""
        return self._cost <= _SHARE * (self._clock() - self._ended)

    def __enter__(self) -> None:
        self._begun = self._clock()

    def __exit__(self, *_: object) -> None:
        self._ended = self._clock()
        self._cost = self._ended - self._begun
