"""HDF5 files, where h5py is installed: their groups and arrays, and nothing beyond the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from numpy.typing import NDArray

from netspec.diagnostics import DataError, NetspecError, printable
from netspec.mapped import map_file

SIGNATURE = b"\x89HDF\r\n\x1a\n"

RATIO = 16
"""How many times the file's size its arrays may take, all together, unpacked."""

FREE = 64 << 20
"""Bytes that they may take in any case."""

MAX_MEMBERS = 50_000
"""The most groups and arrays that are looked at."""

_DAMAGE = (OSError, RuntimeError, ValueError, LookupError, TypeError, OverflowError, MemoryError)
"""What h5py raises on broken files."""

Node: TypeAlias = Any
"""A group or a dataset of h5py, which has no types."""


def is_hdf5(path: Path) -> bool:
    """Whether a regular file begins as HDF5 does; DataError if it cannot be read."""
    return map_file(path)[: len(SIGNATURE)] == SIGNATURE


def library(wanted_for: str) -> Any:
    """h5py; a NetspecError that says how to install it where it is missing."""
    try:
        import h5py
    except ImportError:
        text = f"{wanted_for}: HDF5 needs h5py: pip install 'netspec[hdf5]'"
        raise NetspecError(printable(text)) from None
    return h5py


class Hdf5:
    """An open file; `root` is its outermost group. A fault in it is a ValueError or h5py's own."""

    def __init__(self, root: Node, size: int, h5py: Any) -> None:
        self.root = root
        self._h5py = h5py
        self._left = max(FREE, RATIO * size)
        self._members = MAX_MEMBERS

    def members(self, group: Node) -> dict[str, Node]:
        """The groups and datasets of a group; a link that may lead out of the file is a fault."""
        if not self.is_group(group):
            raise ValueError(f"`{group.name}` is not a group")
        names = list(group)
        self._members -= len(names)
        if self._members < 0:
            raise ValueError(f"more than {MAX_MEMBERS:,} groups and arrays")
        for name in names:
            if not isinstance(group.get(name, getlink=True), self._h5py.HardLink):
                raise ValueError(f"`{name}` is a link, which is not followed")
        return {name: group[name] for name in names}

    def is_group(self, node: Node) -> bool:
        """Whether it has members."""
        return isinstance(node, self._h5py.Group)

    def array(self, dataset: Node, kinds: str = "f") -> NDArray[Any]:
        """The values of a dataset whose type is of one of these kinds (numpy's letters)."""
        known = isinstance(dataset, self._h5py.Dataset)
        if not known or dataset.dtype.kind not in kinds:
            raise ValueError(f"`{dataset.name}` is not an array of the expected type")
        if dataset.shape is None:
            raise ValueError(f"`{dataset.name}` holds nothing")
        if dataset.is_virtual or dataset.external:
            raise ValueError(f"`{dataset.name}` lies in another file, which is not read")
        self._left -= dataset.nbytes
        if self._left < 0:
            declared = f"`{dataset.name}` declares {dataset.nbytes:,} bytes"
            raise ValueError(f"{declared}, with those before over {RATIO} times the file's size")
        values: NDArray[Any] = dataset[...]
        return values


@contextmanager
def open_hdf5(path: Path) -> Iterator[Hdf5]:
    """An HDF5 file; what is wrong inside is a DataError that names the file."""
    h5py, size = library(str(path)), len(map_file(path))
    try:
        with h5py.File(path, "r") as file:
            yield Hdf5(file, size, h5py)
    except _DAMAGE as fault:
        raise DataError(printable(f"{path}: not an HDF5 file, or a damaged one: {fault}")) from None
