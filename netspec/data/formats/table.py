"""CSV: a sample a line, features or the path of an image, with labels and targets beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from math import prod
from pathlib import Path

import numpy as np

from netspec.data.classes import class_names
from netspec.data.dataset import LABEL, Array, Dataset, Reader, Wanted
from netspec.data.encoded import Encoded
from netspec.data.file import fault
from netspec.data.files.image import SUFFIXES
from netspec.data.files.rows import WHOLE, Row, is_finite, is_number, numbers, rows_of
from netspec.data.lazy import Lazy
from netspec.data.lines import located
from netspec.diagnostics import DataError
from netspec.ir.types import TensorType

_BLOCK = 1024
"""Rows that are turned into numbers at once."""

_GROUPED = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\[[^\[\]]*\]", re.ASCII)
"""A column of an array of several: `box[left]`."""


@dataclass(frozen=True)
class _Columns:
    """What each column of a file is for."""

    header: bool
    image: int | None
    label: int | None
    arrays: Mapping[str, Sequence[int]]
    """The columns of numbers, by array."""


def _claims(path: Path) -> bool:
    return path.suffix.lower() in (".csv", ".tsv") and path.is_file()


def _read(path: Path, wanted: Wanted) -> Dataset:
    columns, rows = _opened(path, wanted)
    names, labels = _Texts(), _Texts()
    blocks: dict[str, list[Array]] = {name: [] for name in columns.arrays}
    while block := [*islice(rows, _BLOCK)]:
        for name, places in columns.arrays.items():
            blocks[name].append(numbers(path, block, places))
        names.add(block, columns.image)
        labels.add(block, columns.label)
    arrays = {name: np.concatenate(parts) for name, parts in blocks.items()}
    classes: tuple[str, ...] = ()
    files: list[Path] = []
    streamed: dict[str, Lazy] = {}
    if columns.image is not None:
        texts = [*names.lines]
        files = located(path, [texts[code] for code in names.codes], wanted)
        images = Encoded.of_files(files, wanted, "RGB")
        streamed["data"] = images.images(path, wanted)
    elif wanted.shape and prod(wanted.shape) == arrays["data"].shape[1]:
        arrays["data"] = arrays["data"].reshape(-1, *wanted.shape)
    if columns.label is not None:
        arrays["label"], classes = _labels(path, labels, columns.label, wanted)
    return Dataset(arrays, classes, str(path), streamed=streamed, files=files)


def _probe(path: Path, wanted: Wanted) -> dict[str, TensorType]:
    columns, rows = _opened(path, wanted)
    first = next(rows)
    types = {name: TensorType((len(places),)) for name, places in columns.arrays.items()}
    if columns.image is not None:
        files = located(path, [first.cells[columns.image].strip()], wanted)
        images = Encoded.of_files(files, wanted, "RGB")
        types["data"] = TensorType(images.shape(path, wanted), "uint8")
    if columns.label is not None:
        cell = first.cells[columns.label].strip()
        real = is_number(cell) and not WHOLE.fullmatch(cell)
        types["label"] = TensorType((), "float32") if real else LABEL
    return types


def _opened(path: Path, wanted: Wanted) -> tuple[_Columns, Iterator[Row]]:
    """What the columns are for, and the rows of samples."""
    rows = rows_of(path)
    top = next(rows, None)
    if top is None:
        raise fault(path, "holds no samples")
    header = not any(is_number(cell) or _is_image(cell) for cell in top.cells)
    first = next(rows, None) if header else top
    if first is None:
        raise fault(path, "holds no samples, but a header alone")
    titles = [cell.strip() for cell in top.cells] if header else []
    return _columns(path, titles, first, wanted), chain([first], rows)


def _columns(path: Path, titles: list[str], first: Row, wanted: Wanted) -> _Columns:
    count = len(first.cells)
    image = next((i for i, cell in enumerate(first.cells) if _is_image(cell)), None)
    label = _label(path, titles, count, image, wanted)
    rest = "data" if image is None else "label" if label is None else "target"
    arrays: dict[str, list[int]] = {}
    for i in range(count):
        if i not in (image, label):
            group = _GROUPED.fullmatch(titles[i]) if titles else None
            arrays.setdefault(group[1] if group else rest, []).append(i)
    if image is None and "data" not in arrays:
        held = "no column of features" if count > 1 else "one column; commas separate columns"
        raise fault(path, f"line {first.line:,}: {held}")
    if label is not None and "label" in arrays:
        raise fault(path, "line 1: `label` and `label[…]` are two arrays of one name")
    if image is not None and "data" in arrays:
        raise fault(path, "line 1: `data[…]` beside the column of images, which is `data`")
    return _Columns(bool(titles), image, label, arrays)


def _label(
    path: Path, titles: list[str], count: int, image: int | None, wanted: Wanted
) -> int | None:
    """The column of the labels: as the section says, else `label`, else the last one.

    Beside images the last one is it if there is no other; more are targets.
    """
    said = wanted.section.label
    if said and said not in titles:
        if WHOLE.fullmatch(said) and 1 <= int(said) <= count:
            return int(said) - 1
        known = f"its columns are {', '.join(titles[:20])}" if titles else f"of {count} columns"
        raise fault(path, f"line 1: no column `{said}`; {known}")
    title = said or "label"
    if titles.count(title) > 1:
        raise fault(path, f"line 1: two columns `{title}`")
    if title in titles:
        return titles.index(title)
    if image is not None and count != 2:
        return None
    last = count - 1 if image != count - 1 else 0
    grouped = titles and _GROUPED.fullmatch(titles[last])
    return None if grouped or count == 1 else last


def _is_image(cell: str) -> bool:
    return cell.strip().lower().endswith(SUFFIXES)


@dataclass
class _Texts:
    """A column of text, each text of it kept once."""

    codes: list[int] = field(default_factory=list)
    """For each row which of the texts it has."""
    lines: dict[str, int] = field(default_factory=dict)
    """The texts, and where each stands first."""
    _known: dict[str, int] = field(default_factory=dict)

    def add(self, rows: Sequence[Row], column: int | None) -> None:
        """The column's texts of more rows, without the blanks around them."""
        if column is None:
            return
        known = self._known
        for line, cells in rows:
            text = cells[column].strip()
            if text not in known:
                known[text] = len(known)
                self.lines[text] = line
            self.codes.append(known[text])


def _labels(
    path: Path, labels: _Texts, column: int, wanted: Wanted
) -> tuple[Array, tuple[str, ...]]:
    """The labels and the names of the classes: whole numbers, other numbers, or names."""
    texts = [*labels.lines]

    def wrong(text: str, message: str) -> DataError:
        where = f"line {labels.lines[text]:,}, column {column + 1}"
        return fault(path, f"{where}: label `{text[:40]}` {message}")

    if "" in texts:
        raise fault(path, f"line {labels.lines['']:,}, column {column + 1}: no label")
    codes = np.array(labels.codes, np.int64)
    if all(WHOLE.fullmatch(text) for text in texts):
        return np.array([int(text) for text in texts], np.int64)[codes], ()
    if is_number(texts[0]):
        for text in texts:
            if not is_finite(text):
                raise wrong(text, "is no finite number, and the first one is")
        return np.array([float(text) for text in texts], np.float32)[codes], ()
    classes = class_names(wanted.section, wanted.folder) or tuple(sorted(texts))
    for text in texts:
        if text not in classes:
            raise wrong(text, "is not among the section's classes")
    return np.array([classes.index(text) for text in texts], np.int64)[codes], classes


def _files(path: Path, wanted: Wanted) -> list[Path]:
    """The images that a file lists, each once."""
    columns, rows = _opened(path, wanted)
    if columns.image is None:
        return []
    names = dict.fromkeys(row.cells[columns.image].strip() for row in rows)
    return located(path, [*names], wanted)


READER = Reader(
    "a .csv (features and label; or image, label and targets)",
    _claims,
    _read,
    _probe,
    frozenset({"label", "root_folder", "new_height", "new_width", "cache"}),
    order="RGB",
    images=_files,
)
