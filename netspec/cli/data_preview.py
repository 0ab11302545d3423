"""`netspec data preview`: training images beside what augmentation makes of them."""

from __future__ import annotations

from pathlib import Path

import click

from netspec.cli import options
from netspec.cli.reader import SpecReader, with_reader
from netspec.diagnostics import printable
from netspec.wording import counted

_MOST = 64
"""Samples, and draws of each."""


@click.command("preview")
@options.SPEC
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default=Path("sheet.png"),
    show_default=True, help="The PNG file to write.",
)  # fmt: skip
@click.option(
    "--samples", type=click.IntRange(1, _MOST), default=8, show_default=True,
    help="Images of the training data: the first of an epoch.",
)  # fmt: skip
@click.option(
    "--draws", type=click.IntRange(1, _MOST), default=4, show_default=True,
    help="How often each is drawn: as the first iterations do it.",
)  # fmt: skip
@click.option("--seed", type=int, help="Another seed than the solver's random_seed.")
@options.SETS
@options.INCLUDES
@options.DATA
@with_reader
def command(
    spec: str,
    output: Path,
    samples: int,
    draws: int,
    seed: int | None,
    data: Path | None,
    reader: SpecReader,
) -> int:
    """Draw training images of SPEC beside what its `transform { … }` makes of them.

    They go through the graph of the training step itself; for the eye, the mean and the scale are
    taken back.
    """
    options.check_suffix(output, ".png", "a sheet is")
    source = reader.read(spec, data=data)
    from netspec.files import write_durably
    from netspec.report.sheet import sheet
    from netspec.training.trials.previewing import preview

    found = preview(source, samples=samples, draws=draws, seed=seed, data=data)
    rows = [(printable(row.name), [row.stored, *row.drawn]) for row in found]
    heads = ["stored", *(f"iteration {i}" for i in range(draws))]
    write_durably(output, [sheet(heads, rows)])
    click.echo(
        f"{printable(str(output))}: {counted(len(rows), 'image')}, {counted(draws, 'draw')} of each"
    )
    return 0
