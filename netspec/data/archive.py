"""Archives of arrays made piece by piece, so that no memory has to hold one as a whole."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from math import prod
from typing import Any

import numpy as np

from netspec.data.dataset import Array
from netspec.ir.types import Shape

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every entry, zip's first: the same arrays give the same bytes."""


@dataclass(frozen=True)
class Entry:
    """An array that comes in pieces along its first axis."""

    shape: Shape
    dtype: np.dtype[Any]
    pieces: Iterable[Array]

    @classmethod
    def of(cls, array: Array) -> Entry:
        """An array that is there."""
        return cls(array.shape, array.dtype, [array])

    @property
    def nbytes(self) -> int:
        """Of the values."""
        return prod(self.shape) * self.dtype.itemsize


def npz_chunks(entries: Mapping[str, Entry]) -> Iterator[bytes]:
    """The bytes of an `.npz`, not packed, as `numpy.savez` would write it but for the times."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, entry in entries.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy", _EPOCH), "w", force_zip64=True) as out:
                out.write(_header(entry))
                for piece in entry.pieces:
                    out.write(np.ascontiguousarray(piece, entry.dtype).tobytes())
                    yield sink.drained()
    yield sink.drained()


def _header(entry: Entry) -> bytes:
    header = BytesIO()
    said = {
        "descr": np.lib.format.dtype_to_descr(entry.dtype),
        "fortran_order": False,
        "shape": entry.shape,
    }
    np.lib.format.write_array_header_1_0(header, said)
    return header.getvalue()


class _Sink:
    """A file that can only be written on, and gives away what was written."""

    def __init__(self) -> None:
        self._held = bytearray()

    def write(self, data: bytes) -> int:
        self._held += data
        return len(data)

    def flush(self) -> None:
        """Nothing waits elsewhere."""

    def close(self) -> None:
        """There is nothing to close."""

    def drained(self) -> bytes:
        """What was written since the last call."""
        taken, self._held = bytes(self._held), bytearray()
        return taken
