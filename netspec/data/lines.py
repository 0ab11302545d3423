"""Text files that list other files, a line each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from netspec.data.dataset import Wanted
from netspec.data.file import open_regular, read_whole

_SNIFFED = 1 << 12
"""Bytes that tell what a list is one of."""

_MAX_BYTES = 1 << 30


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, without the blanks around them, by number from 1."""
    for number, line in enumerate(read_whole(path, _MAX_BYTES).split(b"\n"), 1):
        if line.strip():
            yield number, line.strip()


def first_line(path: Path) -> bytes:
    """The beginning of the first line, without the blanks around it."""
    with open_regular(path) as file:
        return file.read(_SNIFFED).partition(b"\n")[0].strip()


def located(path: Path, names: Sequence[str], wanted: Wanted) -> list[Path]:
    """Where the files of a list lie: below root_folder if it is given, else beside the list.

    Caffe's lists often name files as seen from where it was started: if the first is not beside the
    list, all are looked for from the working directory.
    """
    root = wanted.section.root_folder
    if root:  # which Caffe puts in front of the name as it is
        return [wanted.folder / root / name.lstrip("/") for name in names]
    beside, here = path.parent, Path.cwd()
    elsewhere = not _exists(beside / names[0]) and _exists(here / names[0])
    return [(here if elsewhere else beside) / name for name in names]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # such as a name too long
        return False
