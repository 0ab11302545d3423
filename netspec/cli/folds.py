"""`netspec train --folds 5`: what the runs of a cross-validation score, one by one and together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from netspec.cli.options import print_json
from netspec.cli.progress import number, results
from netspec.cli.streams import heard
from netspec.diagnostics import printable
from netspec.report.json import VERSION

if TYPE_CHECKING:
    from netspec.training.outcome import Outcome
    from netspec.training.trials.folds import Scores


def tell(scores: Scores, *, as_json: bool) -> None:
    """The scores on stdout."""
    heard(lambda: _print_json(scores) if as_json else click.echo("\n".join(_lines(scores))))


def _lines(scores: Scores) -> list[str]:
    lines = [f"fold {fold}: {_told(outcome)}" for fold, outcome in enumerate(scores.outcomes, 1)]
    mean, deviation = results(scores.mean), results(scores.deviation)
    if not mean:
        return [*lines, "none was tested"]
    both = [
        f"{name} {number(name, mean[name])}"
        + (f" ± {number(name, deviation[name])}" if deviation else "")
        for name in mean
    ]
    what = " ± standard deviation" if deviation else ""
    return [*lines, f"mean of {len(scores.tested)}{what}: {'  '.join(both)}"]


def _told(outcome: Outcome | None) -> str:
    if outcome is None:
        return "diverged"
    return f"{_row(outcome.test) or 'not tested'}  {printable(str(outcome.run))}"


def _row(values: dict[str, float]) -> str:
    return "  ".join(f"{name} {number(name, value)}" for name, value in results(values).items())


def _print_json(scores: Scores) -> None:
    folds = [
        {
            "fold": fold,
            "run": outcome and str(outcome.run),
            "test": outcome and results(outcome.test),
        }
        for fold, outcome in enumerate(scores.outcomes, 1)
    ]
    both = {"mean": results(scores.mean), "deviation": results(scores.deviation)}
    print_json({"event": "folds", "version": VERSION, "folds": folds, **both}, indent=None)
