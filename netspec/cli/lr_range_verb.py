"""`netspec lr-range`: the learning rates at which a net learns."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from netspec.cli import options
from netspec.cli.progress import Steps
from netspec.cli.reader import SpecReader, reader_options
from netspec.report.json import VERSION
from netspec.report.table import Table, print_table

if TYPE_CHECKING:
    from netspec.training.trials.range_test import RangeTest

_ROWS = 20
"""Of the table; --json has every iteration."""

_BAR = 40


@click.command("lr-range")
@options.SPEC
@click.option(
    "--from", "first", type=float, default=1e-6, show_default=True, metavar="RATE",
    help="The learning rate to begin with.",
)  # fmt: skip
@click.option(
    "--to", "last", type=float, default=10.0, show_default=True, metavar="RATE",
    help="The learning rate to end with, unless the loss blows up before.",
)  # fmt: skip
@click.option(
    "--iterations", type=click.IntRange(10, 10**6), default=100, show_default=True, metavar="N",
    help="Steps from the one to the other.",
)  # fmt: skip
@options.DATA
@options.DEVICE
@options.TARGET
@options.THREADS
@reader_options
@options.JSON
def command(
    spec: str,
    first: float,
    last: float,
    iterations: int,
    data: Path | None,
    device: str,
    target: str | None,
    threads: int | None,
    reader: SpecReader,
    as_json: bool,
) -> int:
    """Train SPEC at a learning rate that grows, and suggest one for its base_lr.

    The loss over the rate tells where it learns, and where it blows up. It leaves no run behind.
    """
    source = reader.read(spec, data=data)
    from netspec.training.setup.experiment import prepare
    from netspec.training.trials.range_test import range_test

    machine = options.machine(device, target, threads)
    with Steps("lr-range", iterations, quiet=as_json) as steps:
        found = range_test(
            prepare(source, data=data), machine, first=first, last=last, iterations=iterations,
            told=steps.told,
        )  # fmt: skip
    if as_json:
        options.print_json({"version": VERSION, **_report(found)})
        return 0
    if found.points:
        print_table(_table(found))
    click.echo(_said(found))
    return 0


def _table(found: RangeTest) -> Table:
    """Some of the points, each with a bar as long as its loss."""
    table = Table([("lr", True), ("loss", True), ("", False)])
    low = found.lowest.smoothed
    high = max([low, *(point.smoothed for point in found.points[:-1])])  # the last may be far away
    step = max(1, len(found.points) // _ROWS)
    for point in found.points[step - 1 :: step]:
        share = min((point.smoothed - low) / (high - low), 1.0) if high > low else 0.0
        table.add(f"{point.rate:.2e}", f"{point.smoothed:.4f}", "*" * round(_BAR * share))
    return table


def _said(found: RangeTest) -> str:
    end = "" if found.blown is None else f"the loss blows up at {found.blown:.2g}; "
    if found.suggestion is None or found.steepest is None:
        return f"{end}the loss never falls: no learning rate can be suggested"
    return (
        f"{end}it falls fastest at {found.steepest.rate:.2g}, and is lowest at "
        f"{found.lowest.rate:.2g}\nsuggested: base_lr {found.suggestion:.1e}"
    )


def _report(found: RangeTest) -> dict[str, object]:
    steepest = found.steepest
    return {
        "points": [asdict(point) for point in found.points],
        "blown": found.blown,
        "steepest": None if steepest is None else steepest.rate,
        "lowest": found.lowest.rate if found.points else None,
        "suggestion": found.suggestion,
    }
