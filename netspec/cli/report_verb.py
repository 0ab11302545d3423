"""`netspec report`: the page of a run, from what lies in its folder."""

from __future__ import annotations

from pathlib import Path

import click

from netspec.cli import options
from netspec.diagnostics import printable
from netspec.files import write_durably


@click.command("report")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", type=click.Path(dir_okay=False, path_type=Path),
    help="The page to write.  [default: report.html in RUN]",
)  # fmt: skip
@options.DATA
@options.DEVICE
def command(run: Path, out: Path | None, data: Path | None, device: str) -> int:
    """Write the page of RUN: curves, classes and mistakes, filters, norms, the spec.

    A training writes it, too, as it goes on; this one is of now, and may test on other data.
    """
    from netspec.training.logs.redrawn import redrawn
    from netspec.training.runs.run import Run

    opened = Run.open(run)
    page = redrawn(
        opened,
        data=data,
        device=device,
        warn=options.print_warning,
    )
    file = out or opened.report
    write_durably(file, [page.html().encode()])
    click.echo(printable(str(file)))
    return 0
