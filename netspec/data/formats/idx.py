"""IDX: the format of MNIST, images and labels in two files, plain or gzip."""

from __future__ import annotations

import re
import struct
from math import prod
from pathlib import Path

import numpy as np

from netspec.data.dataset import LABEL, Array, Dataset, Reader, Wanted
from netspec.data.file import Stream, fault
from netspec.ir.types import Shape, TensorType, size

PREFIXES = {"train": ("train",), "test": ("t10k", "test")}
"""What the files of a split begin with; Kaggle's copies have a dot for the second hyphen."""

_NAME = re.compile(r"idx[13][-.]ubyte(\.gz)?$|\.idx[13]?(\.gz)?$", re.IGNORECASE)
_UNSIGNED_BYTE = 8


def _claims(path: Path) -> bool:
    if path.is_dir():
        return any(_NAME.search(entry.name) for entry in path.iterdir())
    return bool(_NAME.search(path.name))


def _read(path: Path, wanted: Wanted) -> Dataset:
    images = _images_of(path, wanted)
    return read_pair(images, _labels_of(images), origin=str(path))


def _probe(path: Path, wanted: Wanted) -> dict[str, TensorType]:
    with Stream(_images_of(path, wanted)) as stream:
        _, *extent = _axes(stream, 3, "images")
    return {"data": TensorType((1, *extent), "uint8"), "label": LABEL}


def _images_of(path: Path, wanted: Wanted) -> Path:
    return _in_folder(path, wanted.split) if path.is_dir() else path


def read_pair(images: Path, labels: Path, *, origin: str, classes: tuple[str, ...] = ()) -> Dataset:
    """The data set of an images file (N x H x W bytes) and its labels file (N bytes)."""
    pixels = read_idx(images, axes=3, what="images")
    values = read_idx(labels, axes=1, what="labels")
    if len(pixels) != len(values):
        raise fault(
            labels, f"{len(values):,} labels for the {len(pixels):,} images of {images.name}"
        )
    arrays = {"data": pixels[:, np.newaxis], "label": values.astype(np.int64)}
    return Dataset(arrays, classes, origin)


def read_idx(path: Path, *, axes: int, what: str) -> Array:
    """The uint8 array of an IDX file of so many axes.

    The header is two zero bytes, the element type, the number of axes and each axis as a big-endian
    32-bit integer (http://yann.lecun.com/exdb/mnist/). The file must end where the header says.
    """
    with Stream(path) as stream:
        shape = _axes(stream, axes, what)
        content = f"{shape[0]:,} {what}" + (f" of {size(shape[1:])}" if axes > 1 else "")
        block = stream.take(prod(shape), content)
        stream.end(content)
    return np.frombuffer(block, np.uint8).reshape(shape)


def _axes(stream: Stream, axes: int, what: str) -> Shape:
    """The extents that the header declares."""
    magic = bytes(stream.take(4, "IDX magic numbers"))
    expected = bytes((0, 0, _UNSIGNED_BYTE, axes))
    if magic != expected:
        text = f"magic number {magic.hex(' ')} is not that of IDX {what}, {expected.hex(' ')}"
        raise stream.fault(text, 0)
    shape = struct.unpack(f">{axes}I", stream.take(4 * axes, "axes"))
    if 0 in shape:
        raise stream.fault(f"the header declares {size(shape)} {what}, which is none", 4)
    return shape


def _in_folder(folder: Path, split: str) -> Path:
    """The images file of a split."""
    for prefix in PREFIXES[split]:
        for joint in "-.":
            images = _present(folder / f"{prefix}-images{joint}idx3-ubyte")
            if images:
                return images
    names = " or ".join(f"{prefix}-images-idx3-ubyte[.gz]" for prefix in PREFIXES[split])
    raise fault(folder, f"no {names}, the {split} images")


def _labels_of(images: Path) -> Path:
    """The labels file beside an images file: `labels` for `images` and `idx1` for `idx3`."""
    if "images" not in images.name:
        raise fault(images, "an IDX source is the file of the images, with `images` in its name")
    name = images.name.replace("images", "labels").replace("idx3", "idx1").removesuffix(".gz")
    labels = _present(images.with_name(name))
    if labels is None:
        raise fault(images, f"no {name}[.gz] beside it, the labels of these images")
    return labels


def _files(path: Path, wanted: Wanted) -> list[Path]:  # noqa: ARG001
    """What a manifest tells of: a pair, or all pairs of a folder."""
    if not path.is_dir():
        return [path, _labels_of(path)]
    return sorted(entry for entry in path.iterdir() if _NAME.search(entry.name))


def _present(path: Path) -> Path | None:
    """The path, or that of its gzip copy, if there is one."""
    packed = path.with_name(path.name + ".gz")
    return next((p for p in (path, packed) if p.exists()), None)


READER = Reader(
    "an IDX folder (train-images-idx3-ubyte and train-labels-idx1-ubyte, t10k-… for the test; "
    "plain or .gz) or one IDX images file",
    _claims,
    _read,
    _probe,
    files=_files,
)
