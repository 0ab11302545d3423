"""`netspec test`: accuracy and loss of a run on its test data."""

from __future__ import annotations

from pathlib import Path

import click

from netspec.cli import options
from netspec.cli.progress import number, results
from netspec.report.json import VERSION


@click.command("test")
@click.argument("run", type=click.Path(path_type=Path))
@options.DATA
@options.DEVICE
@options.JSON
def command(run: Path, data: Path | None, device: str, as_json: bool) -> int:
    """Accuracy and loss of RUN, a run folder, on its test data; each loss where it has several."""
    from netspec.training.experiment import evaluate_run
    from netspec.training.metrics import values
    from netspec.training.run import Run

    found = evaluate_run(Run.open(run), data=data, device=device)
    if as_json:
        report = {"version": VERSION, "run": str(run), "samples": found.samples}
        scores = results({"loss": found.loss, **found.metrics})
        options.print_json({**report, **scores, "losses": found.losses})
    else:
        scores = results(values(found))
        shown = "  ".join(f"{name} {number(name, value)}" for name, value in scores.items())
        click.echo(f"{run}: {shown}  ({found.samples:,} samples)")
    return 0
