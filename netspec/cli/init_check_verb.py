"""`netspec init-check`: how a net begins, layer by layer, and what its first loss should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from netspec.cli import options
from netspec.cli.reader import SpecReader, reader_options
from netspec.diagnostics import printable
from netspec.ir.types import size
from netspec.report.json import VERSION
from netspec.report.table import Table, print_table
from netspec.training.trials.initial import InitialCheck, LayerStart, initial_check


@click.command("init-check")
@options.SPEC
@options.DATA
@options.BATCH
@click.option("--seed", type=int, help="Seed of the weights.  [default: the solver's random_seed]")
@reader_options
@options.JSON
def command(
    spec: str,
    data: Path | None,
    batch: int | None,
    seed: int | None,
    reader: SpecReader,
    as_json: bool,
) -> int:
    """Means and deviations of SPEC's layers and gradients on a batch, before any training.

    The batch is the first of the training data, or gaussian noise where those are not there.
    """
    source = reader.read(spec)
    found = initial_check(source, data=data, batch=batch, seed=seed)
    if as_json:
        options.print_json(_report(found))
        return 0
    print_table(_layers(found))
    facts = f"batch {found.net.batch} of {found.source or 'gaussian noise'}, seed {found.seed}"
    click.secho(f"\n{printable(found.net.name)}, {printable(facts)}", bold=True)
    print_table(_losses(found))
    for warning in found.warnings:
        options.print_warning(warning)
    return 0


def _layers(found: InitialCheck) -> Table:
    words = ("layer", "type", "shape")
    numbers = ("mean", "deviation", "inactive", "gradient mean", "gradient deviation")
    table = Table([*((title, False) for title in words), *((title, True) for title in numbers)])
    for row in found.layers:
        table.add(row.name, row.type, size(row.shape), *_cells(row))
    return table


def _cells(row: LayerStart) -> list[str]:
    resting = "" if row.resting is None else f"{row.resting:.1%} {row.rests}"
    gradient = [row.gradient_mean, row.gradient_deviation]
    return [
        f"{row.mean:.3g}",
        f"{row.deviation:.3g}",
        resting,
        *("" if number is None else f"{number:.3g}" for number in gradient),
    ]


def _losses(found: InitialCheck) -> Table:
    table = Table([("", False), ("", True), ("", False)])
    for row in found.losses:
        note = ""
        if row.expected is not None:
            note = f"-log(1/{row.classes}) = {row.expected:.4f} where no class is preferred"
        table.add(row.name, f"{row.loss:.4f}", note)
    return table


def _report(found: InitialCheck) -> dict[str, Any]:
    """`source` is null for noise; shares from 0 to 1, null where there is nothing."""
    return {
        "version": VERSION,
        "name": found.net.name,
        "batch": found.net.batch,
        "seed": found.seed,
        "source": found.source,
        "layers": [_layer(row) for row in found.layers],
        "losses": [
            {"name": r.name, "loss": r.loss, "classes": r.classes, "expected": r.expected}
            for r in found.losses
        ],
        "warnings": list(found.warnings),
    }


def _layer(row: LayerStart) -> dict[str, Any]:
    return {
        "name": row.name,
        "type": row.type,
        "top": row.top,
        "shape": list(row.shape),
        "mean": row.mean,
        "deviation": row.deviation,
        "dead": row.resting if row.rests == "dead" else None,
        "saturated": row.resting if row.rests == "saturated" else None,
        "gradient_mean": row.gradient_mean,
        "gradient_deviation": row.gradient_deviation,
    }
