"""The rows of a CSV: cells of text and blocks of numbers, each fault with its line and column."""

from __future__ import annotations

import csv
import re
from array import array
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from netspec.data.file import fault, open_regular
from netspec.diagnostics import DataError
from netspec.ir.fields import MAX_REAL

MAX_LINE = 4 << 20
"""Bytes of a line; 3x512x512 pixels in decimal take three million."""

_BOM = b"\xef\xbb\xbf"
_NUMBER = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*", re.ASCII)
WHOLE = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)


class Row(NamedTuple):
    """A line that is not blank, or the lines of one with line breaks in quotes."""

    line: int
    """The number of its last line, from 1."""
    cells: list[str]


def rows_of(path: Path) -> Iterator[Row]:
    """The rows of a file of UTF-8, split at commas, or at tabs in a `.tsv` (RFC 4180).

    DataError for a line that is too long, no UTF-8, wrongly quoted or of another number of cells.
    """
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    with open_regular(path) as file:
        reader = csv.reader(_lines(path, file), delimiter=delimiter, strict=True)
        width = 0
        while (cells := _next(path, reader)) is not None:
            if not cells:
                continue
            width = width or len(cells)
            if len(cells) != width:
                text = f"{len(cells)} columns, and {width} in the first row"
                raise fault(path, f"line {reader.line_num:,}: {text}")
            yield Row(reader.line_num, cells)


def _lines(path: Path, file: IO[bytes]) -> Iterator[str]:
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise fault(path, f"line {number:,}: over {MAX_LINE >> 20} MiB")
        try:
            yield line.removeprefix(_BOM if number == 1 else b"").decode("utf-8")
        except UnicodeDecodeError as error:
            raise fault(path, f"line {number:,}, byte {error.start}: not UTF-8") from None


def _next(path: Path, reader: Iterator[list[str]]) -> list[str] | None:
    """The cells of the next row; None at the end."""
    try:
        return next(reader, None)
    except csv.Error as error:
        line = getattr(reader, "line_num", 0)
        raise fault(path, f"line {line:,}: not CSV: {error}") from None


def is_number(cell: str) -> bool:
    """Whether a cell is a number, be it too large for float32."""
    return _NUMBER.fullmatch(cell) is not None


def is_finite(cell: str) -> bool:
    """Whether a cell is a number that float32 can hold."""
    return is_number(cell) and abs(float(cell)) <= MAX_REAL


def numbers(path: Path, rows: Sequence[Row], columns: Sequence[int]) -> NDArray[np.float32]:
    """Some columns of some rows as float32; DataError names the first cell that is no number."""
    wide = array("d")  # filled in C, where numpy would go through a list of lists
    take = itemgetter(*columns) if len(columns) > 1 else lambda cells: (cells[columns[0]],)
    try:
        for row in rows:
            wide.extend(map(float, take(row.cells)))
    except ValueError:
        raise _stray(path, rows, columns) from None
    with np.errstate(over="ignore"):
        block = np.asarray(wide).astype(np.float32).reshape(len(rows), len(columns))
    odd = [row for row in rows if not _plain("".join(row.cells))]
    if not np.isfinite(block).all() or not all(_plain(c[i]) for _, c in odd for i in columns):
        raise _stray(path, rows, columns)
    return block


def _plain(text: str) -> bool:
    """Whether numbers in it are written as people do: Python reads 1_000 and ٣ as well."""
    return text.isascii() and "_" not in text


def _stray(path: Path, rows: Sequence[Row], columns: Sequence[int]) -> DataError:
    """The fault of the first cell that is no finite number."""
    for line, cells in rows:
        for i in columns:
            if not is_finite(cells[i]):
                shown = f"`{cells[i][:40]}`" if cells[i].strip() else "an empty cell"
                return fault(path, f"line {line:,}, column {i + 1}: {shown} is no finite number")
    raise AssertionError("a fault was seen")
