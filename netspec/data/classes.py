"""The names of the classes: what a source knows, or what its section says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from netspec.data.dataset import Dataset
from netspec.data.file import fault
from netspec.data.lines import lines_of
from netspec.ir.sections import DataSection

_MAX = 1 << 20


def named(dataset: Dataset, section: DataSection, folder: Path) -> Dataset:
    """The data set with the names that its section gives, if it gives any.

    DataError if the source has as many under other labels: then one of the two is wrong.
    """
    names = class_names(section, folder)
    if not names:
        return dataset
    known = dataset.classes
    if known and len(known) != len(names):
        raise fault(dataset.origin, f"has {len(known):,} classes, `classes` names {len(names):,}")
    if known and known != names and sorted(known) == sorted(names):
        i = next(i for i, name in enumerate(names) if name != known[i])
        text = f"label {i} is `{known[i]}`, and `{names[i]}` by the section's `classes`"
        raise fault(dataset.origin, text)
    return replace(dataset, classes=names)


def class_names(section: DataSection, folder: Path) -> tuple[str, ...]:
    """The names that a section gives, by label; a file has one a line. None is twice."""
    names, where = section.classes, "`classes`"
    if section.class_names:
        path = folder / section.class_names
        names, where = names_in(path), str(path)
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise fault(where, f"`{twice}` is named twice")
    return names


def names_in(path: Path) -> tuple[str, ...]:
    """A class a line."""
    names = []
    for number, line in lines_of(path):
        if number > _MAX:
            raise fault(path, f"more than {_MAX:,} lines")
        try:
            names.append(line.decode("utf-8"))
        except UnicodeDecodeError:
            raise fault(path, f"line {number:,}: not UTF-8") from None
    if not names:
        raise fault(path, "names no class")
    return tuple(names)


def same_classes(dataset: Dataset, trained: tuple[str, ...]) -> None:
    """Raise DataError if a label means another class in the data set than where it was trained."""
    found = dataset.classes
    if not found or not trained or found == trained:
        return
    pairs = enumerate(zip((*found, ""), (*trained, ""), strict=False))
    i, (one, other) = next(((i, pair) for i, pair in pairs if pair[0] != pair[1]))
    text = f"label {i} is {_said(one)}, and {_said(other)} in the training data"
    raise fault(dataset.origin, f"{text}; `classes: [...]` in both sections settles it")


def _said(name: str) -> str:
    return f"`{name}`" if name else "no class"
