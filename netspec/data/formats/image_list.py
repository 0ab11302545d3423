"""Lists of images: a text file of lines `path label`, as Caffe's ImageData reads them."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from netspec.data.dataset import LABEL, Dataset, Reader, Wanted
from netspec.data.encoded import Encoded
from netspec.data.file import fault
from netspec.data.files.image import decode_bytes, decode_resized, strict
from netspec.data.lines import first_line, lines_of, located
from netspec.ir.types import Shape, TensorType

_LABEL = re.compile(rb"[+-]?[0-9]{1,18}")
_LINE = re.compile(rb"\S.*[ \t][+-]?[0-9]{1,18}\s*")
_SUFFIXES = (".txt", ".lst", ".list")


class _Entry(NamedTuple):
    """A line of the list."""

    image: str
    label: int


def _claims(path: Path) -> bool:
    """A file named as a list, or whose first line is one of a list."""
    if not path.is_file():
        return False
    if path.suffix.lower() in _SUFFIXES:
        return True
    first = first_line(path)
    return b"\0" not in first and _LINE.fullmatch(first) is not None


def _read(path: Path, wanted: Wanted) -> Dataset:
    entries = _entries(path)
    files = located(path, [entry.image for entry in entries], wanted)
    images = Encoded.of_files(files, wanted, "BGR")
    with strict():
        shape = _shape(images, wanted)
    data = images.lazy(shape, decode_resized if wanted.section.new_height else decode_bytes)
    label = np.array([entry.label for entry in entries], np.int64)
    return Dataset({"label": label}, (), str(path), files=files, streamed={"data": data})


def _probe(path: Path, wanted: Wanted) -> dict[str, TensorType]:
    (entry,) = _entries(path, 1)
    images = Encoded.of_files(located(path, [entry.image], wanted), wanted, "BGR")
    with strict():
        return {"data": TensorType(_shape(images, wanted), "uint8"), "label": LABEL}


def _shape(images: Encoded, wanted: Wanted) -> Shape:
    """C x H x W of every image: as the section says, else as the first is."""
    section = wanted.section
    channels = 3 if section.is_color else 1
    if section.new_height:
        return (channels, section.new_height, section.new_width)
    return (channels, *images.natural_shape()[1:])


def _entries(path: Path, most: int | None = None) -> list[_Entry]:
    """The lines, or the first `most`, split at the last blank: a path may hold others."""
    found = []
    for number, line in islice(lines_of(path), most):
        image, _, label = line.replace(b"\t", b" ").rpartition(b" ")
        if not image.strip() or not _LABEL.fullmatch(label):
            shown = line[:60].decode("utf-8", "backslashreplace")
            raise fault(path, f"line {number:,}: not `path label` with a whole number: {shown}")
        found.append(_Entry(_text(path, number, line[: len(image)].rstrip()), int(label)))
    if not found:
        raise fault(path, "holds no samples")
    return found


def _text(path: Path, number: int, name: bytes) -> str:
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        raise fault(path, f"line {number:,}: not UTF-8") from None


READER = Reader(
    "a list of images (a .txt of lines `path label`)",
    _claims,
    _read,
    _probe,
    frozenset({"root_folder", "new_height", "new_width", "is_color", "cache"}),
    order="BGR",
    images=lambda path, wanted: located(path, [e.image for e in _entries(path)], wanted),
)
