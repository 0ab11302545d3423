"""The handwritten digits that come with the package."""

from __future__ import annotations

from importlib.resources import as_file, files

from netspec.data.dataset import Dataset
from netspec.data.formats.idx import PREFIXES, read_pair

ORIGIN = "bundled MNIST digits"


def read_bundled(split: str) -> Dataset:
    """MNIST's first 10,000 training images or its first 2,000 test images, 1x28x28."""
    prefix = PREFIXES[split][0]
    folder = files("netspec.data") / "bundled"
    with (
        as_file(folder / f"{prefix}-images-idx3-ubyte.gz") as images,
        as_file(folder / f"{prefix}-labels-idx1-ubyte.gz") as labels,
    ):
        return read_pair(images, labels, origin=ORIGIN, classes=tuple("0123456789"))
