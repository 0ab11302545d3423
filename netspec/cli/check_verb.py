"""`netspec check`: shapes, parameters, arithmetic and memory, or errors with carets."""

from __future__ import annotations

from pathlib import Path

import click

from netspec.cli import options
from netspec.cli.formats import (
    Formats,
    Report,
    format_options,
    print_text,
    write_faults,
    write_files,
)
from netspec.compiler import Elaborated, elaborate, read
from netspec.diagnostics import Diagnostics, NetspecError, SpecErrors, UsageError, printable
from netspec.ir.analysis import cost
from netspec.ir.layer import Phase
from netspec.ir.memory import training_memory
from netspec.report.columns import DEFAULT, find_columns
from netspec.report.json import check_report, unreadable
from netspec.report.table import check_table, print_table, totals_table


@click.command("check")
@options.SPEC
@options.BATCH
@click.option(
    "--phase", type=click.Choice(["TEST", "TRAIN"]), default="TEST", show_default=True,
    help="The phase to show.",
)  # fmt: skip
@options.SETS
@options.INCLUDES
@options.JSON
@format_options
def command(
    spec: str,
    batch: int | None,
    phase: str,
    sets: tuple[str, ...],
    include_paths: tuple[Path, ...],
    as_json: bool,
    formats: Formats,
) -> int:
    """Shapes, parameters, arithmetic and memory of SPEC, or its errors."""
    diagnostics = Diagnostics()
    try:
        nets = elaborate(
            read(spec, sets=sets, include_paths=include_paths), batch=batch, diagnostics=diagnostics
        )
    except SpecErrors as errors:
        found = Diagnostics(list(errors.faults), diagnostics.warnings)
        write_faults(formats, found, None)
        if not as_json:
            raise
        options.print_json(check_report(None, phase, batch, None, None, found))
        return 1
    except UsageError:
        raise
    except NetspecError as error:
        write_faults(formats, diagnostics, (spec, str(error)))
        if not as_json:
            raise
        report = check_report(None, phase, batch, None, None, diagnostics)
        options.print_json({**report, "errors": [unreadable(spec, str(error))]})
        return 1
    _show(nets, Phase(phase), diagnostics, as_json, formats)
    return 0


def _show(
    nets: Elaborated, phase: Phase, diagnostics: Diagnostics, as_json: bool, formats: Formats
) -> None:
    built, train = nets[phase], nets.train.net
    net = built.net
    counted, memory = cost(net, built.places), training_memory(train, train.solver)
    table = check_table(counted, find_columns(DEFAULT))
    totals = totals_table(counted, memory)
    given = Report(net, counted, counted, find_columns(DEFAULT), table, totals, None, diagnostics)
    write_files(formats, given)
    if as_json:
        report = check_report(net.name, phase, net.batch, counted, memory, diagnostics)
        options.print_json(report)
        return
    if not print_text(formats, given):
        print_table(table)
        click.secho(f"\n{printable(net.name)}, phase {phase}, batch {net.batch}", bold=True)
        print_table(totals)
    for lint in diagnostics.warnings:
        click.echo(lint.render("warning"), err=True)
