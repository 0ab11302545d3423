"""Folders of images, one folder per class: `root/class/*.png`, or `root/train/class/*.png`."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path

import numpy as np

from netspec.data.dataset import Array, Dataset, Reader
from netspec.data.file import fault
from netspec.data.image import SUFFIXES, decode, image_shape, natural_shape, strict
from netspec.ir.types import Shape, size

SPLITS = {"train": ("train",), "test": ("test", "val")}
"""Folders below the root that hold a split, the first that is there."""

_TASK = 64
"""Images that a thread decodes in one go."""

_THREADED = 128 * 128
"""Pixels from which threads pay: below, handing Python's lock around costs more than decoding."""

_UNREAD = (".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
"""Images of other formats: passing over them would train on less than the user sees."""


def _claims(path: Path) -> bool:
    return path.is_dir()


def _read(path: Path, split: str, shape: Shape | None) -> Dataset:
    root = _split_folder(path, split)
    classes = _classes(_split_folder(path, "train") if _is_split(path, "train") else root)
    files = _images(root, classes)
    with strict():
        shape = image_shape(path, shape) if shape else natural_shape(files[0][0])
        data = _decode_all(path, [file for file, _ in files], shape)
    label = np.array([index for _, index in files], np.int64)
    return Dataset({"data": data, "label": label}, classes, str(path))


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


def _classes(root: Path) -> tuple[str, ...]:
    """The names of the class folders, sorted: a class's label is its place."""
    names = sorted(e.name for e in root.iterdir() if e.is_dir() and not e.name.startswith("."))
    if not names:
        raise fault(root, "no folders in it; images lie in one folder per class")
    return tuple(names)


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
            if suffix in _UNREAD:
                raise fault(Path(place) / name, f"images are read from {', '.join(SUFFIXES)} only")
            if suffix in SUFFIXES:
                images.append(Path(place) / name)
    return images


def _raise(error: OSError) -> None:
    raise error


def _decode_all(path: Path, files: list[Path], shape: Shape) -> Array:
    """The images as one N x C x H x W array."""
    needed = len(files) * prod(shape)
    if needed > _memory():
        text = f"{len(files):,} images of {size(shape)} take {needed:,} bytes"
        raise fault(path, f"{text}, more than this machine's memory")
    data = np.empty((len(files), *shape), np.uint8)

    def fill(start: int) -> None:
        for row in range(start, min(start + _TASK, len(files))):
            data[row] = decode(files[row], shape)

    tasks = range(0, len(files), _TASK)
    if prod(shape[1:]) < _THREADED:
        for start in tasks:
            fill(start)
        return data
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for _ in pool.map(fill, tasks):
            pass
    finally:
        pool.shutdown(cancel_futures=True)
    return data


def _memory() -> int:
    """Bytes of this machine's memory, or no limit where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 1 << 62


READER = Reader(
    "a folder of images (class/*.png, .jpg, .jpeg; or train/class/… and test/class/…)",
    _claims,
    _read,
)
