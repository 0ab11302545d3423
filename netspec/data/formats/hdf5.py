"""HDF5: files whose data sets are the blobs, one or as many as a text file lists."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from netspec.data.dataset import Array, Dataset, Reader, Wanted, afford
from netspec.data.file import bomb, fault, open_regular
from netspec.data.lines import first_line, lines_of, located
from netspec.data.values import converted, sample_type
from netspec.diagnostics import DataError, UsageError
from netspec.ir.types import TensorType, size

INSTALL = "HDF5 files are read by h5py: pip install 'netspec[hdf5]'"

_SUFFIXES = (".h5", ".hdf5")
_MAX_NAMES = 64


def _claims(path: Path) -> bool:
    if not path.is_file():
        return False
    return _is_hdf5(path.name) or _is_hdf5(first_line(path).decode("latin-1"))


def _is_hdf5(name: str) -> bool:
    return name.lower().endswith(_SUFFIXES)


def _read(path: Path, wanted: Wanted) -> Dataset:
    parts: list[dict[str, Array]] = []
    for file in _files(path, wanted):
        part = _arrays(file)
        if parts and _samples(part) != _samples(parts[0]):
            raise fault(file, f"holds {_samples(part)}, the first file {_samples(parts[0])}")
        parts.append(part)
    for name, array in parts[0].items():
        afford(path, sum(len(part[name]) for part in parts), "samples", array.shape[1:], 4)
    joined = {name: _joined([part[name] for part in parts]) for name in parts[0]}
    return Dataset(joined, (), str(path))


def _probe(path: Path, wanted: Wanted) -> dict[str, TensorType]:
    file = next(iter(_files(path, wanted)))
    with _opened(file) as found:
        return {name: sample_type(name, held.shape, held.dtype) for name, held in found}


def _files(path: Path, wanted: Wanted) -> list[Path]:
    if _is_hdf5(path.name):
        return [path]
    names = [line.decode("utf-8", "backslashreplace") for _, line in lines_of(path)]
    for number, name in enumerate(names, 1):
        if not _is_hdf5(name):
            raise fault(path, f"file {number:,} of the list is not one of HDF5: {name[:60]}")
    return located(path, names, wanted)


def _arrays(path: Path) -> dict[str, Array]:
    """Every data set of a file, whole."""
    arrays = {}
    with _opened(path) as found:
        for name, held in found:
            afford(path, held.shape[0], f"samples of `{name}`", held.shape[1:], held.dtype.itemsize)
            arrays[name] = converted(path, name, np.asarray(held[()]))
    counts = {len(array) for array in arrays.values()}
    if len(counts) != 1:
        raise fault(path, f"the data sets differ in samples, or there are none: {sorted(counts)}")
    return arrays


@contextmanager
def _opened(path: Path) -> Iterator[list[tuple[str, Any]]]:
    """The data sets of a file by name; what the library raises becomes a DataError."""
    try:
        import h5py
    except ImportError:
        raise UsageError(f"{path}: {INSTALL}") from None
    open_regular(path).close()
    try:
        with h5py.File(path, "r") as file:
            yield [(name, _held(path, file, name, h5py)) for name in _names(path, file)]
    except DataError:
        raise
    except Exception as error:  # the library raises whatever its parts do
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise fault(path, f"not an HDF5 file, or a damaged one: {reason}") from None


def _names(path: Path, file: Any) -> list[str]:
    names = [str(name) for name in file]
    if len(names) > _MAX_NAMES:
        raise fault(path, f"{len(names):,} data sets, more than {_MAX_NAMES}")
    return names


def _held(path: Path, file: Any, name: str, h5py: Any) -> Any:
    """A data set, known to hold numbers in this file, and no more than it has room for."""
    link = file.get(name, getlink=True)
    held = file[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(held, h5py.Dataset):
        raise fault(path, f"`{name}` is no data set of this file")
    if held.is_virtual or held.external:
        raise fault(path, f"`{name}` keeps its values in other files")
    if held.dtype.kind not in "uif" or not held.shape:
        what = f"{size(held.shape or ())} of {held.dtype}"
        raise fault(path, f"`{name}` holds {what}, not numbers by sample")
    declared = prod(held.shape) * held.dtype.itemsize
    if bomb(held.id.get_storage_size(), declared):
        stored = held.id.get_storage_size()
        raise fault(path, f"`{name}` declares {declared:,} bytes out of {stored:,}")
    return held


def _samples(arrays: dict[str, Array]) -> str:
    return ", ".join(f"`{name}` of {size(a.shape[1:])}" for name, a in sorted(arrays.items()))


def _joined(arrays: list[Array]) -> Array:
    if len(arrays) == 1:
        return arrays[0]
    return np.concatenate([a.astype(np.result_type(*arrays), copy=False) for a in arrays])


READER = Reader(
    "an HDF5 file (.h5), or a .txt that lists some",
    _claims,
    _read,
    _probe,
    frozenset({"root_folder"}),
    transforms=False,
    files=lambda path, wanted: [*{path, *_files(path, wanted)}],
)
