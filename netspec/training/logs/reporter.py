"""Writes a run's page while it trains: within a share of the time, and once more at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cached_property
from math import prod
from typing import Any

from numpy.typing import NDArray

from netspec.files import write_atomically
from netspec.ir.layer import Phase, Role
from netspec.ir.net import Net
from netspec.report.summary import Summary, summarise
from netspec.training.logs.events import (
    Event,
    Failed,
    Finished,
    RolledBack,
    Row,
    Stopped,
    read_events,
)
from netspec.training.logs.history import History
from netspec.training.logs.judged import Judged
from netspec.training.logs.report import RunPage
from netspec.training.runs.run import Run
from netspec.training.setup.experiment import Experiment
from netspec.training.testing.predicting import Judge

_SHARE = 0.003
"""Of the time, at most, that goes into pages before the end; into judgements, too."""
_PAGE, _JUDGEMENT = 0.03, 0.3
"""Seconds that each may take, before it is known."""

_HELD = 256 << 20
"""Bytes of predictions that are held while training: those of 65,536 samples of 1,000 classes."""

Arrays = Mapping[str, NDArray[Any]]


class Reporter:
    """Hears a training's events, and writes `report.html` where it is worth the time.

    The last page comes at the end. Before, one is written with a row of the log as soon as the one
    before took less than a small share of the time since; the first after ten seconds. Predictions
    of the test samples, which take as long as a test, follow the same rule on their own, if there
    are not too many: `netspec report` gathers them all the same.
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
        if isinstance(event, RolledBack):  # the file is cut, and begins the curves anew
            events, _ = read_events(self._run.events)
            self._history = History(self._history.metrics, events)
        else:
            self._history.add(event)
        if isinstance(event, Finished):
            self._attempt(self._judge, event)
            self._attempt(self._write, event)
        elif isinstance(event, Stopped | Failed):  # whoever stopped it does not want to wait
            self._attempt(self._write, event)
        elif isinstance(event, Row) and self._pages.allows():
            if self._history.tested is not None and self._judgements.allows():
                self._attempt(self._judge, event)
            self._attempt(self._write, event)

    def _attempt(self, action: Callable[[Event], None], event: Event) -> None:
        """A page is a view: whatever goes wrong with it, the training goes on."""
        try:
            action(event)
        except Exception as fault:
            if not self._warned:
                self._warned = True
                self._warn(f"{self._run.report}: is behind, training goes on: {fault}")

    def _write(self, _: Event) -> None:
        summary = self._summary  # takes time at first, and none when a page is written again
        with self._pages:
            page = RunPage(
                self._run, self._history, self._net, summary, self._weights(), self._judged
            )
            write_atomically(self._run.report, [page.html().encode()])

    def _judge(self, event: Event) -> None:
        if self._test is None or not affordable(self._net, len(self._test)):
            return
        with self._judgements:
            said = self._made_judge.predictions(self._weights())
            self._judged = Judged.of(said, event.iteration, self._net, self._test)

    @property
    def _net(self) -> Net:
        return self._nets.test.net

    @cached_property
    def _summary(self) -> Summary:
        return summarise(self._nets, Phase.TEST, exact=False)

    @cached_property
    def _made_judge(self) -> Judge:
        return self._make_judge()


def affordable(net: Net, samples: int) -> bool:
    """Whether the predictions of so many samples are few enough to be held while training."""
    heads = [n for n in net.nodes if n.layer.role in (Role.LOSS, Role.METRIC)]
    cells = max((prod(node.bottom_types[0].sample) for node in heads), default=0)
    return 4 * samples * cells <= _HELD


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
