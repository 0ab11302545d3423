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
    """Accuracy and loss of RUN, a run folder, on its test data."""
    from netspec.training.experiment import evaluate_run
    from netspec.training.run import Run

    found = evaluate_run(Run.open(run), data=data, device=device)
    values = results({"loss": found.loss, **found.metrics})
    if as_json:
        report = {"version": VERSION, "run": str(run), "samples": found.samples}
        options.print_json({**report, **values, "losses": found.losses})
    else:
        shown = "  ".join(f"{name} {number(name, value)}" for name, value in values.items())
        click.echo(f"{run}: {shown}  ({found.samples:,} samples)")
    return 0
