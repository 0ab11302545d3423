"""Reports as tables: columns on a terminal, plain text when piped."""

from __future__ import annotations

from io import StringIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from netspec.ir.analysis import Cost
from netspec.ir.types import size

_ENDLESS = 100_000
"""Columns of a page that is no terminal."""

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def bytes_text(count: int) -> str:
    """A number of bytes in binary units: `1.63 MiB`."""
    value, unit = float(count), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{count} B" if unit == 0 else f"{value:.2f} {_UNITS[unit]}"


def plain_table(*columns: tuple[str, bool]) -> Table:
    """An empty table of the house style; a column is (title, whether it holds numbers)."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, numeric in columns:
        last = (title, numeric) == columns[-1] and not numeric
        table.add_column(title, justify="right" if numeric else "left", no_wrap=not last)
    return table


def check_table(
    console: Console, name: str, phase: str, cost: Cost, training: tuple[int, int] | None
) -> None:
    """Print what a net costs; `training` is (batch, bytes)."""
    table = plain_table(
        ("layer", False), ("type", False), ("top", False), ("parameters", True), ("MACs", True),
        ("activations", True),
    )  # fmt: skip
    for layer in cost.layers:
        table.add_row(
            Text(layer.name),
            layer.type,
            "  ".join(size(shape) for _, shape in layer.tops),
            f"{layer.parameters:,}" if layer.parameters else "",
            f"{layer.macs:,}" if layer.macs else "",
            bytes_text(layer.activation_bytes) if layer.activation_bytes else "in place",
        )
    print_wide(console, table)
    console.print()
    console.print(Text(f"{name}, phase {phase}, batch {cost.batch}", style="bold"))
    totals = plain_table(("", False), ("", True), ("", False))
    totals.show_header = False
    for label, number, note in _totals(cost, training):
        totals.add_row(label, number, note)
    print_wide(console, totals)


def _totals(cost: Cost, training: tuple[int, int] | None) -> list[tuple[str, str, str]]:
    held = f"{cost.trained:,} trained, {cost.frozen:,} frozen" if cost.frozen else "all trained"
    rows = [("parameters", f"{cost.parameters:,}", f"{bytes_text(4 * cost.parameters)}, {held}")]
    if cost.statistics:
        rows.append(("statistics", f"{cost.statistics:,}", "running means and variances"))
    rows += [
        ("MACs", f"{cost.macs:,}", "multiply-accumulates for one input (conv, fc)"),
        ("FLOPs", f"{cost.flops:,}", "2 per MAC"),
        ("activations", f"{cost.activations:,}", "values for one input"),
        ("forward memory", bytes_text(cost.forward_bytes), f"at batch {cost.batch}"),
    ]
    if training is not None:
        batch, held_bytes = training
        rows.append(("training memory", bytes_text(held_bytes), f"at batch {batch}"))
    return rows


def print_wide(console: Console, table: Table) -> None:
    """Print a table; piped, every column is whole and no line ends in blanks."""
    if console.is_terminal:
        console.print(table)
        return
    width = console.measure(table, options=console.options.update(width=_ENDLESS)).maximum
    plain = Console(file=StringIO(), width=width, highlight=False)
    plain.print(table)
    assert isinstance(plain.file, StringIO)
    for line in plain.file.getvalue().splitlines():
        console.out(line.rstrip(), highlight=False)
