"""`netspec data inspect`: what is in a source, and what should be looked at before training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from netspec.cli import options
from netspec.cli.sections import WORD, Asked, asked, is_spec
from netspec.data import Dataset, Reading, channel_order, open_dataset
from netspec.data.health import Channels, SplitHealth, examine, extremes, oddities
from netspec.data.tolerance import Tolerance
from netspec.diagnostics import DataError, UsageError, printable
from netspec.files import write_durably
from netspec.report.json import VERSION
from netspec.report.table import Table, print_table
from netspec.wording import counted

_BAR = 30
"""Characters of the longest bar."""
_ROWS = 60
"""Classes on a sheet."""


@click.command("inspect")
@WORD
@click.option(
    "--sheet", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Draw some samples of each class, as a PNG.",
)  # fmt: skip
@click.option(
    "--per-class", type=click.IntRange(1, 64), default=8, show_default=True,
    help="Samples of a class on the sheet.",
)  # fmt: skip
@click.option("--strict", is_flag=True, help="Exit with 1 if anything is odd.")
@options.JSON
def command(source: str, sheet: Path | None, per_class: int, strict: bool, as_json: bool) -> int:
    """Look at every sample of a source, or of those that SPEC names.

    Counts, sizes, channels, labels; copies, samples of the test among those of training, and
    whatever else is odd.
    """
    if sheet is not None:
        options.check_suffix(sheet, ".png", "a sheet is")
    found = [examine(asking.split, dataset) for asking, dataset in _opened(source)]
    odd = oddities(found)
    if sheet is not None:
        write_durably(sheet, [_sheet(source, found, per_class)])
    if as_json:
        facts = {health.split: _facts(health) for health in found}
        options.print_json({"version": VERSION, "splits": facts, "warnings": odd})
    else:
        for health in found:
            _print(health)
        for line in odd:
            click.echo(f"warning: {printable(line)}")
        if sheet is not None:
            click.echo(f"{printable(str(sheet))}: {per_class} samples of each class at most")
    return int(strict and bool(odd))


def _opened(source: str) -> list[tuple[Asked, Dataset]]:
    """The data sets of both splits; of a source that has no splits, one.

    The first DataError if there is nothing at all, and any of a spec's.
    """
    reading = Reading(room=0, tolerance=Tolerance(2**31))
    found: list[tuple[Asked, Dataset]] = []
    faults: list[DataError] = []
    for asking in asked(source):
        section = asking.section.model_copy(update={"cache": None})
        try:
            dataset = open_dataset(
                section.source, split=asking.split, base=asking.base, section=section,
                reading=reading,
            )  # fmt: skip
        except DataError as error:
            if is_spec(source):
                raise
            faults.append(error)
            continue
        if found and not is_spec(source) and _same(found[0][1], dataset):
            return [(replace(asking, split="all"), dataset)]
        found.append((asking, dataset))
    if not found:
        raise faults[0]
    return found


def _same(one: Dataset, other: Dataset) -> bool:
    """Whether a source gives the same for both splits."""
    if one.shapes != other.shapes or len(one) != len(other):
        return False
    for name, lazy in one.streamed.items():
        again = other.streamed[name]
        if any(lazy.name(row) != again.name(row) for row in range(len(one))):
            return False
    return all(np.array_equal(array, other.arrays[name]) for name, array in one.arrays.items())


def _facts(health: SplitHealth) -> dict[str, Any]:
    return {
        "source": health.dataset.origin,
        "samples": len(health.dataset),
        "sizes": extremes(health.sizes),
        "arrays": [
            {
                "name": name,
                "channels": count,
                "mean": found.means,
                "std": found.deviations,
                "min": found.least.tolist(),
                "max": found.most.tolist(),
            }
            for (name, count), found in health.channels.items()
        ],
        "labels": [
            {"label": label, "name": name, "samples": health.labels[label]}
            for label, name in _classes(health).items()
        ],
        "unreadable": list(health.unreadable),
    }


def _classes(health: SplitHealth) -> dict[int, str]:
    """Every class there should be, and every label that there is; none without labels."""
    if not health.labels:
        return {}
    return {label: str(label) for label in sorted(health.labels)} | health.classes


def _print(health: SplitHealth) -> None:
    click.echo(
        f"{health.split}: {counted(len(health.dataset), 'sample')} of {health.dataset.origin}"
    )
    sizes = extremes(health.sizes)
    if sizes:
        one = f"all {sizes['largest']}"
        several = ", ".join(f"{what} {shape}" for what, shape in sizes.items())
        click.echo(f"images: {several if len(health.sizes) > 1 else one}")
    click.echo()
    table = Table([("array", False), *((name, True) for name in ("channel", *_MOMENTS))])
    for (name, _), found in health.channels.items():
        for channel, moments in enumerate(_moments(found)):
            table.add(name, str(channel), *(f"{value:.5g}" for value in moments))
    print_table(table)
    click.echo()
    if health.labels:
        _print_labels(health)
        click.echo()


_MOMENTS = ("mean", "std", "min", "max")


def _moments(found: Channels) -> Iterator[tuple[float, ...]]:
    """Of every channel."""
    return zip(found.means, found.deviations, found.least, found.most, strict=True)


def _print_labels(health: SplitHealth) -> None:
    table = Table([("class", False), ("samples", True), ("share", True), ("", False)])
    most, total = max(health.labels.values()), sum(health.labels.values())
    for label, name in _classes(health).items():
        count = health.labels[label]
        bar = "#" * round(_BAR * count / most)
        table.add(name, f"{count:,}", f"{count / total:.1%}", bar)
    print_table(table)


def _sheet(source: str, found: list[SplitHealth], per_class: int) -> bytes:
    """The contact sheet of the first split."""
    from netspec.report.contact_sheet import contact_sheet

    health = found[0]
    section = asked(source)[0]
    blue_first = channel_order(section.section, section.base) == "BGR"
    data = health.dataset
    name = next((n for n, shape in data.shapes.items() if len(shape) == 3), None)
    if name is None:
        raise UsageError(f"{source}: the samples are no images to be drawn")
    labels = data.arrays["label"] if health.labels else np.zeros(len(data), np.int64)
    rows = []
    for label, called in [*(_classes(health) or {0: "all"}).items()][:_ROWS]:
        chosen = np.flatnonzero(labels == label)
        spread = np.linspace(0, len(chosen) - 1, min(per_class, len(chosen))).astype(int)
        takes = [_taking(data, name, int(row), flipped=blue_first) for row in chosen[spread]]
        rows.append((printable(called), counted(len(chosen), "sample"), takes))
    return contact_sheet(rows)


def _taking(
    data: Dataset, name: str, row: int, *, flipped: bool
) -> Callable[[], NDArray[Any] | None]:
    def take() -> NDArray[Any] | None:
        lazy = data.streamed.get(name)
        try:
            pixels = data.arrays[name][row] if lazy is None else lazy.natural(row)
        except DataError:
            return None
        return pixels[::-1] if flipped and len(pixels) == 3 else pixels

    return take
