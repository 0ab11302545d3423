"""Folders of images in a zip archive, laid out as on the disk: `class/*.png`, `train/class/…`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from netspec.data.dataset import LABEL, Dataset, Reader, Wanted
from netspec.data.encoded import Encoded
from netspec.data.file import fault
from netspec.data.files.image import SUFFIXES
from netspec.data.files.packed import Archive, read_directory
from netspec.data.formats.folder import SPLITS, UNREAD
from netspec.ir.types import TensorType


class _Entry(NamedTuple):
    """An image of a class."""

    file: str
    label: int


def _claims(path: Path) -> bool:
    return path.suffix.lower() == ".zip" and not path.is_dir()


def _read(path: Path, wanted: Wanted) -> Dataset:
    archive = read_directory(path)
    classes, entries = _listed(archive, wanted.split)
    images = _encoded(archive, entries, wanted)
    data = images.images(path, wanted)
    label = np.array([entry.label for entry in entries], np.int64)
    return Dataset({"label": label}, classes, str(path), streamed={"data": data})


def _probe(path: Path, wanted: Wanted) -> dict[str, TensorType]:
    archive = read_directory(path)
    _, entries = _listed(archive, wanted.split)
    shape = _encoded(archive, entries, wanted).shape(path, wanted)
    return {"data": TensorType(shape, "uint8"), "label": LABEL}


def _encoded(archive: Archive, entries: list[_Entry], wanted: Wanted) -> Encoded:
    return Encoded(
        len(entries),
        name=lambda i: archive.name(entries[i].file),
        content=lambda i: archive.content(entries[i].file),
        order=wanted.order("RGB"),
        tolerance=wanted.tolerance,
    )


def _listed(archive: Archive, split: str) -> tuple[tuple[str, ...], list[_Entry]]:
    """The classes, and every image of a split with its label, by class and name."""
    top = _root(archive)
    roots = {each: _split_root(archive, top, each) for each in SPLITS}
    split_up = any(roots.values())
    root = roots[split] if split_up else top
    if root is None:
        other = "test" if split == "train" else "train"
        text = f"no folder {' or '.join(SPLITS[split])} beside that of the {other} images"
        raise fault(archive.path, text)
    classes = _below(archive, roots["train"] or root)
    if not classes:
        raise fault(archive.path, "no folders in it; images lie in one folder per class")
    for name in _below(archive, root):
        if name not in classes:
            message = f"`{root}{name}`: a class that the training images do not have"
            raise fault(archive.path, message)
    return classes, _entries(archive, root, classes)


def _root(archive: Archive) -> str:
    """What the names of the classes or splits begin with: a lone folder around them all."""
    top = ""
    while len(inner := _below(archive, top)) == 1 and _below(archive, f"{top}{inner[0]}/"):
        if inner[0] in (name for names in SPLITS.values() for name in names):
            break
        top = f"{top}{inner[0]}/"
    return top


def _split_root(archive: Archive, top: str, split: str) -> str | None:
    there = _below(archive, top)
    return next((f"{top}{name}/" for name in SPLITS[split] if name in there), None)


def _below(archive: Archive, root: str) -> tuple[str, ...]:
    """The names of the folders in a folder, sorted; hidden ones are none of them."""
    depth = root.count("/")
    inner = (f.split("/") for f in archive.folders if f.startswith(root))
    return tuple(sorted(p[depth] for p in inner if len(p) == depth + 1 and not _hidden(p[depth:])))


def _entries(archive: Archive, root: str, classes: tuple[str, ...]) -> list[_Entry]:
    """The images of a split: every class that is there has some."""
    found: dict[str, list[str]] = {name: [] for name in _below(archive, root)}
    depth = root.count("/")
    for file in sorted(archive.files):
        parts = file.split("/")
        if not file.startswith(root) or len(parts) < depth + 2 or _hidden(parts[depth:]):
            continue
        suffix = PurePosixPath(parts[-1]).suffix.lower()
        if suffix in UNREAD:
            raise fault(archive.name(file), f"images are read from {', '.join(SUFFIXES)} only")
        if suffix in SUFFIXES:
            found[parts[depth]].append(file)
    empty = next((name for name in found if not found[name]), None)
    if empty is not None:
        message = f"`{root}{empty}`: no images of this class ({', '.join(SUFFIXES)})"
        raise fault(archive.path, message)
    labels = {name: label for label, name in enumerate(classes)}
    return [_Entry(file, labels[name]) for name in sorted(found) for file in found[name]]


def _hidden(parts: Iterable[str]) -> bool:
    """Whether a file is hidden, or one of macOS's notes on others."""
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def _validates(path: Path) -> bool:
    archive = read_directory(path)
    return {"val", "test"} <= {*_below(archive, _root(archive))}


READER = Reader(
    "the same in a .zip",
    _claims,
    _read,
    _probe,
    frozenset({"new_height", "new_width", "cache"}),
    validates=_validates,
)
