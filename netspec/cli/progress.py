"""What a training tells while it runs: a progress bar for people, one JSON object a line else."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Self, cast

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar
from rich.table import Column

from netspec.caffe.match import Match
from netspec.cli.options import print_json
from netspec.cli.streams import Stderr, heard
from netspec.cli.weights import tell
from netspec.diagnostics import printable
from netspec.ir.duration import spoken
from netspec.training.listener import Listener
from netspec.training.outcome import Outcome
from netspec.wording import counted

_REFRESH = 0.1
"""Seconds between two updates of the bar: it must not slow the training."""


class _Told(Listener):
    """A listener that is entered while it is told."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to put back."""

    def matched(self, match: Match) -> None:
        tell(match, "weights")


class Progress(_Told):
    """On stderr a bar with rate and remaining time, a line for each test; the result on stdout."""

    def __init__(self) -> None:
        self._console = console = Console(
            file=cast(IO[str], Stderr()), highlight=False, soft_wrap=True
        )
        self._bar = Bar(
            *_columns(), console=console, transient=True, disable=not console.is_terminal
        )
        self._task = self._bar.add_task("training", total=None, rate="", told="")
        self._score = ""
        self._begin = self._shown = 0.0
        self._first = 0

    def __exit__(self, *_: object) -> None:
        self._bar.stop()  # else a terminal keeps the bar, and no cursor, after an interrupt

    def tuning(self, done: int, total: int) -> None:
        self._bar.update(self._task, description="autotune", total=total, completed=done)
        self._bar.start()

    def tuned(self, measured: int, changed: int, left: int) -> None:
        said = f"autotune: {measured} kinds of operators measured, {changed} computed otherwise"
        self._console.print(f"{said}, {left} out of time" if left else said)

    def started(self, iteration: int, length: int, run: Path) -> None:
        verb = "going on with" if iteration else "training in"
        self._console.print(
            f"{verb} {printable(str(run))}: {counted(length, 'iteration')}", markup=False
        )
        self._begin, self._first, self._score = time.monotonic(), iteration, ""
        self._bar.update(self._task, description="training", total=length, completed=iteration)
        self._bar.start()

    def progressed(self, iteration: int, loss: float, rate: float) -> None:
        now = time.monotonic()
        if now - self._shown < _REFRESH:
            return
        self._shown = now
        speed = (iteration - self._first) / max(now - self._begin, 1e-9)
        told = f"loss {loss:.4f}  lr {rate:.3g}{self._score}"
        self._bar.update(self._task, completed=iteration, rate=f"{speed:.1f} it/s", told=told)

    def tested(self, iteration: int, values: Mapping[str, float]) -> None:
        shown = _line(values)
        scores = [f"{n} {number(n, v)}" for n, v in results(values).items() if n != "loss"]
        self._score = f"  {scores[-1]}" if scores else ""
        elapsed = time.monotonic() - self._begin
        self._console.print(
            f"iteration {iteration:>6,}  {elapsed:6.1f} s  test {shown}", markup=False
        )

    def rolled_back(self, iteration: int, to: int, why: str) -> None:
        self.warned(why)
        self.warned(f"back from iteration {iteration:,} to {to:,}")
        self._first, self._begin = to, time.monotonic()

    def noted(self, message: str) -> None:
        self._console.print(printable(message), markup=False)

    def warned(self, message: str) -> None:
        self._console.print(f"warning: {printable(message)}", markup=False)

    def finished(self, outcome: Outcome) -> None:
        self._bar.stop()
        run = printable(str(outcome.run))
        if outcome.skipped:
            self.warned(f"left out, since not finite: {counted(outcome.skipped, 'update')}")
        if outcome.bad_samples:
            self.warned(
                f"passed over, since not readable: {counted(outcome.bad_samples, 'sample')}"
            )
        if outcome.waited is not None:
            waited = f"{1000 * outcome.waited:.2f} ms"
            self.noted(f"steps waited {waited} for their samples, in the mean")
        if outcome.ending:
            self.noted(outcome.ending)
        said = "done" if outcome.ran else "done before"
        score = _line(outcome.test) or ("not tested" if outcome.tests else "no test data")
        lines = [f"{said}: {score}  ({spoken(outcome.seconds)})"]
        if outcome.best is not None:
            name = "accuracy" if outcome.higher else "loss"
            at = f"of iteration {outcome.best_iteration:,}"
            lines.append(f"best: {name} {number(name, outcome.best)} {at}: {run}/best.onnx")
        lines.append(f"{run}/model.onnx")
        heard(lambda: click.echo("\n".join(lines)))


class Steps:
    """A bar for the steps of a verb that leaves no run: rate, remaining time, loss, rate."""

    def __init__(self, word: str, total: int, *, quiet: bool) -> None:
        console = Console(stderr=True, highlight=False)
        shown = console.is_terminal and not quiet
        self._bar = Bar(*_columns(), console=console, transient=True, disable=not shown)
        self._task = self._bar.add_task(word, total=total, rate="", told="")
        self._begin = time.monotonic()
        self._shown = 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def told(self, done: int, loss: float, rate: float) -> None:
        """So many steps are done."""
        now = time.monotonic()
        if now - self._shown < _REFRESH:
            return
        self._shown = now
        speed = f"{done / max(now - self._begin, 1e-9):.1f} it/s"
        told = f"loss {loss:.4f}  lr {rate:.3g}"
        self._bar.update(self._task, completed=done, rate=speed, told=told)


def _columns() -> tuple[ProgressColumn, ...]:
    return (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True, table_column=Column(min_width=5, no_wrap=True)),
        TextColumn("{task.fields[told]}"),
    )


def _line(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {number(name, value)}" for name, value in results(values).items())


def number(name: str, value: float) -> str:
    """A result as people read it: accuracies in per cent."""
    return f"{value:.2%}" if name.startswith("accuracy") else f"{value:.4f}"


class JsonLines(_Told):
    """One object a line on stdout; the last one is `{"event": "done", …}`."""

    def tuned(self, measured: int, changed: int, left: int) -> None:
        self._event("tuned", measured=measured, changed=changed, left=left)

    def started(self, iteration: int, length: int, run: Path) -> None:
        self._event("started", iteration=iteration, length=length, run=str(run))

    def tested(self, iteration: int, values: Mapping[str, float]) -> None:
        self._event("tested", iteration=iteration, test=results(values))

    def saved(self, iteration: int, path: Path) -> None:
        self._event("saved", iteration=iteration, path=str(path))

    def rolled_back(self, iteration: int, to: int, why: str) -> None:
        self._event("rolled_back", iteration=iteration, to=to, why=why)

    def noted(self, message: str) -> None:
        self._event("note", message=message)

    def warned(self, message: str) -> None:
        self._event("warning", message=message)

    def finished(self, outcome: Outcome) -> None:
        self._event(
            "done",
            run=str(outcome.run),
            iterations=outcome.iterations,
            skipped=outcome.skipped,
            bad_samples=outcome.bad_samples,
            waited=outcome.waited,
            test=results(outcome.test),
            best=outcome.best,
            best_iteration=outcome.best_iteration,
            seconds=outcome.seconds,
            ending=outcome.ending or None,
        )

    def _event(self, event: str, **facts: object) -> None:
        heard(lambda: print_json({"event": event, **facts}, indent=None))


def results(values: Mapping[str, float]) -> dict[str, float]:
    """Test results with the last accuracy under that very name, whatever its layer is called."""
    accuracies = [name for name in values if name.startswith("accuracy")]
    if not accuracies or "accuracy" in values:
        return dict(values)
    last = accuracies[-1]
    return {"accuracy" if name == last else name: value for name, value in values.items()}
