"""Data sets: one module per source format, and the order in which samples are taken."""

from __future__ import annotations

from pathlib import Path

from netspec.data import folder, idx, npz
from netspec.data.dataset import Dataset, Reader, check_dataset
from netspec.data.file import fault
from netspec.data.image import Picture, read_image
from netspec.data.mnist import read_bundled
from netspec.ir.types import Shape

__all__ = ["READERS", "Dataset", "Picture", "Reader", "check_dataset", "open_dataset", "read_image"]

READERS = (npz.READER, idx.READER, folder.READER)
"""The first that claims a path reads it: a folder that is not IDX is one of images."""


def open_dataset(source: str, *, split: str, base: Path, shape: Shape | None = None) -> Dataset:
    """Read the `train` or `test` split of a source, a path relative to `base`.

    `mnist` is the bundled digits if no such path exists. `shape` is that of the input `data`,
    C x H x W; images are decoded to it (without it, to that of the first). Raises DataError.
    """
    assert split in ("train", "test")
    path = base / source
    if not _exists(path):
        if source == "mnist":
            return read_bundled(split)
        raise fault(path, f"no such file or folder; a source is {_forms()}")
    try:
        for reader in READERS:
            if reader.claims(path):
                return reader.read(path, split, shape)
    except OSError as e:
        raise fault(Path(e.filename or path), f"cannot be read: {e.strerror}") from None
    raise fault(path, f"of no known format; a source is {_forms()}")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # such as a name too long, a folder not to be entered
        return False


def _forms() -> str:
    return ", ".join(reader.form for reader in READERS) + ", or `mnist` for the bundled digits"
