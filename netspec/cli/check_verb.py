"""`netspec check`: shapes, parameters, arithmetic and memory, or errors with carets."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
from netspec.cli.reader import SpecReader, with_reader
from netspec.cli.wishes import caffe_options
from netspec.compiler import elaborate
from netspec.diagnostics import Diagnostics, NetspecError, SpecErrors, UsageError, printable
from netspec.ir.analysis import Cost
from netspec.ir.folding import folded
from netspec.ir.layer import Phase
from netspec.ir.training_memory import SLOTS
from netspec.report.budget import check_budget, enforce
from netspec.report.columns import DEFAULT, Column, find_columns, ordered
from netspec.report.json import check_report, faults, faulty_report, unreadable
from netspec.report.quantity import number_of_bytes
from netspec.report.summary import BYTES, summarise
from netspec.report.table import (
    Table,
    check_table,
    default_table,
    print_table,
    terminal_width,
    totals_table,
)


@click.command("check")
@options.SPEC
@options.BATCH
@options.PHASE
@click.option(
    "--columns", metavar="NAMES", show_default=",".join(DEFAULT),
    help="The columns of the table, with commas between them.",
)  # fmt: skip
@click.option("--sort", metavar="NAME", help="Sort by a column, the largest first.")
@click.option(
    "--depth", type=click.IntRange(1, 128),
    help="Fold layers into blocks: those whose names agree in so many parts.",
)  # fmt: skip
@click.option(
    "--dtype", type=click.Choice(list(BYTES)), default="float32", show_default=True,
    help="The element type that memory is counted for.",
)  # fmt: skip
@click.option(
    "--optimizer", type=click.Choice(list(SLOTS)), help="Count the memory of this solver type."
)
@click.option(
    "--target", type=click.Choice(["cpu", "cpu-plain", "cuda"]), default="cpu", show_default=True,
    help="What the training step is compiled for when its memory is counted.",
)  # fmt: skip
@click.option(
    "--exact/--estimate", default=None, show_default="exact for up to 300 layers and 4096 samples",
    help="Count training memory on the operators of the step, or estimate it from the blobs.",
)  # fmt: skip
@click.option(
    "--memory", metavar="SIZE", help="Say the largest batch whose training fits in it: 8GiB."
)
@click.option(
    "--assert", "asserts", multiple=True, metavar="TEST",
    help="Exit with 3 unless it holds: 'parameters < 5M', 'train_memory < 8GiB'.",
)  # fmt: skip
@options.SETS
@options.INCLUDES
@options.JSON
@caffe_options
@with_reader
@format_options
def command(
    spec: str,
    batch: int | None,
    phase: str,
    columns: str | None,
    sort: str | None,
    depth: int | None,
    dtype: str,
    optimizer: str | None,
    target: str,
    exact: bool | None,
    memory: str | None,
    asserts: tuple[str, ...],
    as_json: bool,
    reader: SpecReader,
    formats: Formats,
) -> int:
    """Shapes, parameters, arithmetic and memory of SPEC, or its errors."""
    view = _View.of(columns, sort, depth)
    amount = None if memory is None else number_of_bytes(memory)
    diagnostics = Diagnostics()
    try:
        source = reader.read_into(diagnostics, spec, phase=Phase(phase))
        nets = elaborate(source, batch=batch, diagnostics=diagnostics)
    except UsageError:
        raise
    except NetspecError as error:
        write_faults(formats, spec, error, diagnostics)
        if not as_json:
            raise
        found = faults(error.faults) if isinstance(error, SpecErrors) else None
        errors = [unreadable(spec, str(error))] if found is None else found
        options.print_json(faulty_report(phase, batch, errors, diagnostics.warnings))
        return 1
    summary = summarise(
        nets, Phase(phase), dtype=dtype, optimizer=optimizer, memory=amount, target=target,
        exact=exact,
    )  # fmt: skip
    budgets = [check_budget(text, summary) for text in asserts]
    rows = view.rows(summary.cost)
    report = Report(
        nets[Phase(phase)].net,
        summary.cost,
        rows,
        view.columns or find_columns(DEFAULT),
        totals_table(summary),
        depth,
        diagnostics,
    )
    write_files(formats, report)
    if as_json:
        options.print_json(check_report(summary, rows, budgets, diagnostics))
    else:
        _print(report, view, formats)
    enforce(budgets)
    return 0


@dataclass(frozen=True)
class _View:
    """Which columns and rows are shown."""

    columns: tuple[Column, ...]
    """None asked for: what fits of the default ones."""
    sort: Column | None
    depth: int | None

    @staticmethod
    def of(columns: str | None, sort: str | None, depth: int | None) -> _View:
        found = find_columns(options.names(columns, "--columns"))
        return _View(found, None if sort is None else find_columns([sort])[0], depth)

    def rows(self, cost: Cost) -> Cost:
        """The layers to show, in their order."""
        rows = cost if self.depth is None else folded(cost, self.depth)
        return rows if self.sort is None else replace(rows, layers=ordered(rows, self.sort))

    def table(self, rows: Cost) -> Table:
        """The rows by the columns that were asked for, or by those that the terminal takes."""
        return (
            check_table(rows, self.columns)
            if self.columns
            else default_table(rows, terminal_width())
        )


def _print(report: Report, view: _View, formats: Formats) -> None:
    if not print_text(formats, report):
        print_table(view.table(report.rows))
        click.secho(f"\n{printable(report.heading)}, {report.facts}", bold=True)
        print_table(report.totals)
    options.print_warnings(report.found)
