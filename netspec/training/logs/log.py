"""`log.csv`: a row of numbers per display and per test, the same if a run was resumed."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from netspec.diagnostics import printable
from netspec.files import reaching, write_durably
from netspec.training.logs.appended import Growing

_FIRST = ("iteration", "epoch", "lr", "loss")
_TEST = "test_"
_LAST = "seconds"

Row = dict[str, str]


class Log(Growing):
    """Appends rows to a CSV file with one header.

    Columns: iteration, epoch, lr, loss, the training metrics, test_loss, the test metrics, and last
    the seconds of training, the only one that differs from run to run. A metric that appears later
    than the header adds its column. A disk that is full costs a warning and no training: rows are
    held and written when there is room.
    """

    def __init__(
        self,
        path: Path,
        *,
        keep: int = -1,
        warn: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open, and drop what comes after iteration `keep` or is torn."""
        self._columns, rows, size = _read(path, keep)
        super().__init__(path, size, warn)
        self._clock = clock
        self._held: list[Row] = []
        self._start = clock() - (_number(rows[-1][_LAST]) if rows else 0.0)

    def append(
        self,
        iteration: int,
        *,
        epoch: float,
        rate: float,
        train: Mapping[str, float],
        test: Mapping[str, float],
    ) -> None:
        """Add a row; `train` and `test` hold `loss` and the metrics; no test, an empty `test`."""
        row = {"iteration": str(iteration), "epoch": _text(epoch), "lr": _text(rate)}
        row |= {_column(name): _text(value) for name, value in train.items()}
        row |= {_TEST + printable(name): _text(value) for name, value in test.items()}
        row[_LAST] = f"{self._clock() - self._start:.3f}"
        self._held.append(row)
        self._attempt(self._write)

    def _write(self) -> None:
        if not self._held:
            return
        columns = _ordered([*self._columns, *(name for row in self._held for name in row)])
        if columns == self._columns:
            self._cut()
            self._add(_csv([[row.get(name, "") for name in columns] for row in self._held]))
        else:  # of what an earlier try wrote, the rows that are held do not count
            _, rows, _ = _read(self.path, int(self._held[0]["iteration"]) - 1)
            table = [[row.get(name, "") for name in columns] for row in (*rows, *self._held)]
            text = _csv([columns, *table])
            write_durably(self.path, [text])
            self._columns, self._size = columns, len(text)
        self._held.clear()


def _read(path: Path, keep: int) -> tuple[list[str], list[Row], int]:
    """The header, the sound rows up to iteration `keep`, and the byte they end at.

    DataError if the file cannot be read: it would be cut to nothing.
    """
    lines: list[bytes] = []
    with reaching(path, "read"), suppress(FileNotFoundError):
        lines = path.read_bytes().splitlines(keepends=True)
    header = _fields(lines[0]) if lines else []
    if tuple(header[:1]) != _FIRST[:1] or header[-1] != _LAST:
        return [], [], 0
    rows: list[Row] = []
    size, last = len(lines[0]), -1
    for line in lines[1:]:
        fields = _fields(line)
        if len(fields) != len(header) or not fields[0].isdecimal():
            break
        if not last < int(fields[0]) <= keep:
            break
        rows.append(dict(zip(header, fields, strict=True)))
        size, last = size + len(line), int(fields[0])
    return header, rows, size


def _fields(line: bytes) -> list[str]:
    """The cells of a whole line; none if it is torn."""
    if not line.endswith(b"\n") or b"\0" in line:
        return []
    return next(csv.reader([line.decode(errors="replace")]), [])


def _csv(table: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    return text.getvalue().encode()


def _ordered(names: Sequence[str]) -> list[str]:
    """Training's columns, then the test's, each in the order in which they came up."""
    known = dict.fromkeys(names)
    train = [name for name in known if not name.startswith(_TEST) and name not in (*_FIRST, _LAST)]
    test = [name for name in known if name.startswith(_TEST)]
    return [*_FIRST, *train, *test, _LAST]


def _column(name: str) -> str:
    """`loss` is the total; anything else that has the name of a column of ours gets a `_`."""
    name = printable(name)
    taken = (*_FIRST[:-1], _LAST)
    return f"{name}_" if name in taken or name.startswith(_TEST) else name


def _text(value: float) -> str:
    return f"{value:.9g}"  # nine digits tell any two float32 apart


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
