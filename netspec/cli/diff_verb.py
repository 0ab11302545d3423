"""`netspec diff`: two specs beside each other, layer by layer."""

from __future__ import annotations

from pathlib import Path

import click

from netspec.cli import options
from netspec.compiler import elaborate, read
from netspec.diagnostics import printable
from netspec.ir.layer import Phase
from netspec.report.difference import (
    Side,
    difference,
    difference_report,
    difference_tables,
)
from netspec.report.summary import is_small, summarise
from netspec.report.table import print_table


@click.command("diff")
@click.argument("before")
@click.argument("after")
@options.BATCH
@click.option(
    "--phase", type=click.Choice(["TEST", "TRAIN"]), default="TEST", show_default=True,
    help="The phase to compare.",
)  # fmt: skip
@options.SETS
@options.INCLUDES
@options.JSON
def command(
    before: str,
    after: str,
    batch: int | None,
    phase: str,
    sets: tuple[str, ...],
    include_paths: tuple[Path, ...],
    as_json: bool,
) -> int:
    """What changed from the spec BEFORE to the spec AFTER: layers matched by name, and totals.

    --set goes to AFTER alone, so that a spec can be compared with itself.
    """
    chosen = Phase(phase)
    both = [
        elaborate(read(spec, sets=given, include_paths=include_paths), batch=batch)
        for spec, given in ((before, ()), (after, sets))
    ]
    exact = all(map(is_small, both))  # memory that was counted is not set beside an estimate
    found = difference(
        *(
            Side(spec, nets[chosen].net, summarise(nets, chosen, exact=exact))
            for spec, nets in zip((before, after), both, strict=True)
        )
    )
    if as_json:
        options.print_json(difference_report(found))
        return 0
    if found.same:
        click.echo(f"{printable(before)} and {printable(after)} are the same")
        return 0
    if found.inputs:
        names = ", ".join(printable(change.what) for change in found.inputs)
        click.echo(f"the inputs are not the same: {names}\n")
    layers, totals = difference_tables(found)
    for table in (layers, totals):
        if table.rows:
            print_table(table)
            click.echo()
    return 0
