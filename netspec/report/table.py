"""Reports as tables: fitted to a terminal, plain text when piped."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from shutil import get_terminal_size
from textwrap import wrap

import click

from netspec.diagnostics import printable
from netspec.ir.analysis import Cost
from netspec.ir.training_memory import TrainingMemory
from netspec.report.columns import DEFAULT, LEAST, Column, bytes_text, find_columns
from netspec.report.summary import Summary

_NARROWEST = 16
"""Columns that a name or a note keeps on the narrowest terminal."""

_PAGE = 100
"""Columns of a page of text that is no terminal."""


@dataclass(frozen=True)
class Table:
    """Rows of text under titles; a column is (title, whether it holds numbers)."""

    columns: Sequence[tuple[str, bool]]
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        """Append a row, control characters escaped."""
        assert len(cells) == len(self.columns)
        self.rows.append(tuple(map(printable, cells)))

    @property
    def titles(self) -> tuple[str, ...]:
        """Empty if no column has one."""
        titles = tuple(title for title, _ in self.columns)
        return titles if any(titles) else ()

    def lines(self, width: int | None = None) -> Iterator[str]:
        """Numbers to the right, no blanks at the end of a line.

        To fit into `width` columns the last column is wrapped if it holds words, and the first one
        loses its beginning, which is where the path of a layer or a file says least; numbers stay
        whole.
        """
        rows = [self.titles, *self.rows] if self.titles else self.rows
        widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
        *_, (_, numbers_last) = self.columns
        if width and not numbers_last:
            widths[-1] = max(_NARROWEST, min(widths[-1], width - sum(widths[:-1]) - _gaps(widths)))
        if width:
            widths[0] = min(widths[0], max(_NARROWEST, width - sum(widths[1:]) - _gaps(widths)))
        for *begun, last in rows:
            if begun and len(begun[0]) > widths[0]:
                begun[0] = f"…{begun[0][1 - widths[0] :]}"
            for piece in [last] if numbers_last else wrap(last, widths[-1] or 1) or [""]:
                yield self._line([*begun, piece], widths)
                begun = [""] * len(begun)

    def _line(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        placed = (
            cell.rjust(width) if numeric else cell.ljust(width)
            for cell, width, (_, numeric) in zip(cells, widths, self.columns, strict=True)
        )
        return "  ".join(placed).rstrip()


def _gaps(widths: Sequence[int]) -> int:
    return 2 * (len(widths) - 1)


def terminal_width() -> int | None:
    """The columns of the terminal on stdout; None where it is none."""
    return get_terminal_size().columns if sys.stdout.isatty() else None


def print_table(table: Table) -> None:
    """On stdout: fitted to a terminal, whole where it is none."""
    for i, line in enumerate(table.lines(terminal_width())):
        click.echo(click.style(line, bold=True) if i == 0 and table.titles else line)


def print_definitions(pairs: Sequence[tuple[str, str]]) -> None:
    """On stdout: terms, and beside each what there is to say, wrapped."""
    width = get_terminal_size().columns if sys.stdout.isatty() else _PAGE
    formatter = click.HelpFormatter(width=width)
    if pairs:
        formatter.write_dl([(printable(term), printable(text)) for term, text in pairs])
    click.echo(formatter.getvalue(), nl=False)


def check_table(cost: Cost, columns: Sequence[Column]) -> Table:
    """What each layer of a net costs, by columns."""
    table = Table([(column.title, column.numeric) for column in columns])
    for layer in cost.layers:
        table.add(*(column.shown(layer, cost) for column in columns))
    return table


def default_table(cost: Cost, width: int | None) -> Table:
    """The columns that are shown unless others are asked for, as many as fit into `width`."""
    table = check_table(cost, find_columns(DEFAULT))
    for i in range(len(LEAST)):
        if width is None or max(map(len, table.lines(width))) <= width:
            break
        left = [key for key in DEFAULT if key not in LEAST[: i + 1]]
        table = check_table(cost, find_columns(left))
    return table


def totals_table(summary: Summary) -> Table:
    """What a net costs in all."""
    cost, training = summary.cost, summary.training
    table = Table([("", False), ("", True), ("", False)])
    held = f"{cost.trained:,} trained, {cost.frozen:,} frozen" if cost.frozen else "all trained"
    table.add("parameters", f"{cost.parameters:,}", f"{bytes_text(4 * cost.parameters)}, {held}")
    if cost.statistics:
        table.add("statistics", f"{cost.statistics:,}", "running means and variances")
    table.add("MACs", f"{cost.macs:,}", "multiply-accumulates for one input (conv, fc)")
    table.add("backward MACs", f"{cost.backward_macs:,}", "of the gradients, for one input")
    table.add("FLOPs", f"{cost.flops:,}", "2 per MAC, forward")
    summed = bytes_text(cost.activation_bytes)
    batch = f"at batch {cost.batch}"
    table.add("activations", f"{cost.activations:,}", f"values for one input, {summed} {batch}")
    table.add("forward memory", bytes_text(cost.forward_bytes), f"{batch}, blobs freed when read")
    if training is not None:
        _add_training(table, training)
    if summary.largest_batch is not None and summary.memory is not None:
        within = f"of training in {bytes_text(summary.memory)}"
        table.add("largest batch", f"{summary.largest_batch:,}", within)
    table.add("Caffe's memory", bytes_text(cost.caffe_bytes), f'{batch}, "required for data"')
    return table


def _add_training(table: Table, training: TrainingMemory) -> None:
    how = "counted" if training.exact else "estimated, without workspace"
    table.add("training memory", bytes_text(training.total), f"at batch {training.batch}, {how}")
    for part in ("weights", "gradients", "solver", "statistics", "activations", "workspace"):
        held = getattr(training, part)
        if held:
            each = part == "gradients" and training.shards > 1
            note = f"each of {training.shards} shards of a batch has its own" if each else ""
            table.add(f"  {part}", bytes_text(held), note)
