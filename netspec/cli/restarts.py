"""Trainings of one spec from several seeds: each told as it goes, and a table of all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from netspec.cli.options import print_json
from netspec.cli.progress import number
from netspec.compiler import Spec
from netspec.diagnostics import printable
from netspec.ir.duration import spoken
from netspec.report.json import VERSION
from netspec.report.table import Table, print_table
from netspec.training.listener import Listener
from netspec.training.outcome import Outcome
from netspec.training.trials.restarts import Restart, Restarts, restarts


def train_restarts(
    spec: Spec,
    count: int,
    train: Callable[[Spec, bool | Path], Outcome],
    runs: Path,
    resume: bool,
    listener: Listener,
) -> Restarts:
    """Train with each seed, and let the listener hear which one begins."""

    def told(which: int, seed: int) -> None:
        listener.noted(f"training {which} of {count}: random_seed {seed}")

    return restarts(
        spec, count, lambda one, folder: train(one, folder or False), runs=runs, resume=resume,
        told=told, warn=listener.warned,
    )  # fmt: skip


def tell_restarts(found: Restarts, as_json: bool) -> None:
    """A table with the best one marked, the mean and the deviation; or a line of JSON."""
    if as_json:
        print_json({"event": "restarts", "version": VERSION, **_report(found)}, indent=None)
        return
    table = Table([("", False), ("seed", True), ("best test", True), ("iteration", True),
                   ("time", True), ("run", False)])  # fmt: skip
    for run in found.runs:
        table.add("*" if run is found.best else "", str(run.seed), *_cells(run))
    print_table(table)
    if found.mean is not None:
        spread = "" if found.deviation is None else f" ± {_score(found, found.deviation)}"
        click.echo(f"mean {_score(found, found.mean)}{spread} over {len(found.scores)} runs")
    assert found.best.outcome is not None
    click.echo(f"the best: {printable(str(found.best.outcome.run))}")


def _cells(run: Restart) -> tuple[str, ...]:
    if run.outcome is None:
        return "diverged", "", "", ""
    outcome = run.outcome
    score = "-" if run.score is None else number(_name(outcome), run.score)
    at = "" if outcome.best_iteration is None else f"{outcome.best_iteration:,}"
    return score, at, spoken(outcome.seconds), printable(str(outcome.run))


def _score(found: Restarts, value: float) -> str:
    assert found.best.outcome is not None
    return number(_name(found.best.outcome), value)


def _name(outcome: Outcome) -> str:
    return "accuracy" if outcome.higher else "loss"


def _report(found: Restarts) -> dict[str, Any]:
    best = found.best.outcome
    assert best is not None
    return {
        "runs": [
            {
                "seed": run.seed,
                "run": run.outcome and str(run.outcome.run),
                "score": run.score,
                "iteration": run.outcome and run.outcome.best_iteration,
                "test": run.outcome and run.outcome.test,
                "seconds": run.outcome and run.outcome.seconds,
            }
            for run in found.runs
        ],
        "best": str(best.run),
        "higher_is_better": best.higher,
        "mean": found.mean,
        "deviation": found.deviation,
    }
