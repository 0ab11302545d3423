"""The table of `netspec check` as CSV: raw numbers under the keys of the columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from netspec.diagnostics import printable
from netspec.ir.analysis import Cost
from netspec.report.columns import Cell, Column

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""


def csv_text(rows: Cost, columns: Sequence[Column]) -> str:
    """A header and a line per layer, quoted as in RFC 4180: bare numbers, shapes as in a spec.

    Text that a spreadsheet would run gets a `'` before it.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([column.key for column in columns])
    for layer in rows.layers:
        writer.writerow([_cell(column, column.value(layer, rows)) for column in columns])
    return out.getvalue()


def _cell(column: Column, value: Cell) -> str | int | float:
    if value is None:
        return ""
    if isinstance(value, int | float):
        return value
    return harmless(printable(column.text(value)))


def harmless(text: str) -> str:
    """Text that no spreadsheet takes for a formula; a bare number is one already."""
    try:
        float(text)
    except ValueError:
        return f"'{text}" if text.startswith(_FORMULA) else text
    return text
