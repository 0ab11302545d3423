"""Folders of images, one folder per class: `root/class/*.png`, or `root/train/class/*.png`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from netspec.data.dataset import LABEL, Dataset, Reader, Wanted
from netspec.data.encoded import Encoded
from netspec.data.file import fault
from netspec.data.files.image import SUFFIXES
from netspec.ir.types import TensorType

SPLITS = {"train": ("train",), "test": ("test", "val"), "val": ("val",)}
"""Folders below the root that hold a split, the first that is there."""

UNREAD = (".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
"""Images of other formats: passing over them would train on less than the user sees."""


def _claims(path: Path) -> bool:
    return path.is_dir()


def _read(path: Path, wanted: Wanted) -> Dataset:
    classes, listed = _listed(path, wanted.split)
    files = [file for file, _ in listed]
    label = np.array([index for _, index in listed], np.int64)
    data = {"data": Encoded.of_files(files, wanted, "RGB").images(path, wanted)}
    return Dataset({"label": label}, classes, str(path), files=files, streamed=data)


def _probe(path: Path, wanted: Wanted) -> dict[str, TensorType]:
    _, listed = _listed(path, wanted.split)
    images = Encoded.of_files([file for file, _ in listed], wanted, "RGB")
    return {"data": TensorType(images.shape(path, wanted), "uint8"), "label": LABEL}


def _listed(path: Path, split: str) -> tuple[tuple[str, ...], list[tuple[Path, int]]]:
    """The classes, and every image of a split with its label."""
    root = _split_folder(path, split)
    classes = _classes(_split_folder(path, "train") if _is_split(path, "train") else root)
    return classes, _images(root, classes)


def _is_split(path: Path, split: str) -> bool:
    return any((path / name).is_dir() for name in SPLITS[split])


def _split_folder(path: Path, split: str) -> Path:
    """The folder of the split's classes; the root if it is not split."""
    if not any(_is_split(path, each) for each in SPLITS):
        return path
    for name in SPLITS[split]:
        if (path / name).is_dir():
            return path / name
    other = "test" if split == "train" else "train"
    raise fault(path, f"no folder {' or '.join(SPLITS[split])} beside that of the {other} images")


def _validates(path: Path) -> bool:
    return all((path / name).is_dir() for name in ("val", "test"))


def _classes(root: Path) -> tuple[str, ...]:
    """The names of the class folders, sorted: a class's label is its place."""
    names = sorted(e.name for e in root.iterdir() if e.is_dir() and not e.name.startswith("."))
    if not names:
        raise fault(root, "no folders in it; images lie in one folder per class")
    for name in names:
        if not _is_text(name):
            raise fault(root / name, "the name of a class is no UTF-8")
    return tuple(names)


def _is_text(name: str) -> bool:
    """Whether the bytes of a file's name are UTF-8: Python lets others by as lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _images(root: Path, classes: tuple[str, ...]) -> list[tuple[Path, int]]:
    """Every image of a split with its label, by class and name."""
    for name in _classes(root):
        if name not in classes:
            raise fault(root / name, "a class that the training images do not have")
    files = []
    for index, name in enumerate(classes):
        if (root / name).is_dir():
            below = _files_below(root / name)
            if not below:
                raise fault(root / name, f"no images of this class ({', '.join(SUFFIXES)})")
            files += [(file, index) for file in below]
    return files


def _files_below(folder: Path) -> list[Path]:
    """The images of a class in any depth, by path; hidden files are none of them."""
    images = []
    for place, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            suffix = Path(name).suffix.lower()
            if name.startswith("."):
                continue
            if suffix in UNREAD:
                raise fault(Path(place) / name, f"images are read from {', '.join(SUFFIXES)} only")
            if suffix in SUFFIXES:
                images.append(Path(place) / name)
    return images


def _images_of_all_splits(path: Path, wanted: Wanted) -> list[Path]:  # noqa: ARG001
    """What a manifest tells of."""
    splits = [split for split in SPLITS if _is_split(path, split)] or ["train"]
    return [file for split in splits for file, _ in _listed(path, split)[1]]


def _raise(error: OSError) -> None:
    raise error


READER = Reader(
    "a folder of images (class/*.png, .jpg, .jpeg; or train/class/… and test/class/…)",
    _claims,
    _read,
    _probe,
    frozenset({"new_height", "new_width", "cache"}),
    validates=_validates,
    files=lambda _path, _wanted: [],
    images=_images_of_all_splits,
)
