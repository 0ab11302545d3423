"""NumPy archives: each key of an `.npz` is a blob, its first axis the samples."""

from __future__ import annotations

import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

import numpy as np

from netspec.data.dataset import Array, Dataset, Reader, Wanted
from netspec.data.file import CHUNK, FREE, RATIO, bomb, fault, open_regular
from netspec.data.values import converted, sample_type
from netspec.ir.types import Shape, TensorType, size

T = TypeVar("T")

MAX_KEYS = 64

_MAX_HEADER = 1 << 14

_HEADER = re.compile(
    r"\{\s*'descr':\s*'([<>|=]?[a-zA-Z][0-9]*)',\s*'fortran_order':\s*(True|False),"
    r"\s*'shape':\s*\(([0-9, ]{0,400})\),?\s*\}\s*",
    re.ASCII,
)
"""What every writer of plain arrays puts there; read by pattern, so nothing is evaluated."""

_NUMBERS = ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8")

_DAMAGE = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error, RuntimeError, ValueError,
    EOFError, OSError, OverflowError, IndexError,
)  # fmt: skip
"""What zipfile raises on broken or unusual archives."""


_END = struct.Struct("<4s6xH10x")
"""A zip's end record: its mark and the count of entries (APPNOTE 4.3.16)."""


_ENTRY = 46
"""Bytes of an entry of a zip's directory without its name: a longer remark on one hides another."""


class _Header(NamedTuple):
    dtype: np.dtype[np.generic]
    fortran: bool
    shape: Shape


def _claims(path: Path) -> bool:
    return path.suffix.lower() == ".npz" and not path.is_dir()


def _read(path: Path, wanted: Wanted) -> Dataset:  # noqa: ARG001 - the keys tell
    arrays = read_arrays(path)
    classes = _classes(path, arrays.pop("classes")) if "classes" in arrays else ()
    return Dataset({k: converted(path, k, a) for k, a in arrays.items()}, classes, str(path))


def _probe(path: Path, wanted: Wanted) -> dict[str, TensorType]:  # noqa: ARG001
    headers = _entries(path, lambda *entry: _header(*entry[:3])[0])
    headers.pop("classes", None)
    return {name: sample_type(name, h.shape, h.dtype) for name, h in headers.items()}


def _entries(path: Path, take: Callable[[Path, str, IO[bytes], int], T]) -> dict[str, T]:
    """What `take` finds at the begin of every array, by key."""
    found: dict[str, T] = {}
    with open_regular(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                for member in _members(path, archive):
                    key = member.filename.removesuffix(".npy")
                    with archive.open(member) as stream:
                        found[key] = take(path, key, stream, member.file_size)
        except _DAMAGE as e:
            raise fault(path, f"not an .npz, or a damaged one: {e}") from None
    return found


def read_arrays(path: Path) -> dict[str, Array]:
    """The arrays of an `.npz` by key, as they are stored; DataError."""
    return _entries(path, _array)


def read_npy(path: Path, what: str) -> Array:
    """The array of an `.npy` file, as float32 or bytes; `what` names it in faults."""
    with open_regular(path) as file:
        array = _array(path, what, file, os.fstat(file.fileno()).st_size)
    return converted(path, what, array)


def _classes(path: Path, names: Array) -> tuple[str, ...]:
    """The strings of a one-axis array; decoded here, for numpy trusts that they are Unicode."""
    width = names.dtype.itemsize
    codec = "utf-32-be" if names.dtype.byteorder == ">" else "utf-32-le"
    content = names.tobytes()
    try:
        if names.dtype.kind == "U" and names.ndim == 1:
            parts = (content[i : i + width] for i in range(0, len(content), width))
            return tuple(part.decode(codec).rstrip("\0") for part in parts)
    except UnicodeDecodeError:
        pass
    raise fault(path, "`classes`: holds the names of the labels, one string each")


def _members(path: Path, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The archive's entries, known to be arrays that unpack to what the file can hold."""
    members = archive.infolist()
    packed = path.stat().st_size
    hidden = any(len(m.comment) + len(m.extra) >= _ENTRY for m in members)
    if hidden or _stated_count(path, archive) != len(members):
        raise fault(path, "damaged: its directory does not hold as many arrays as it says")
    if len(members) > MAX_KEYS:
        raise fault(path, f"{len(members):,} keys, more than {MAX_KEYS}")
    if len({member.filename for member in members}) < len(members):
        raise fault(path, "two arrays of one name")
    for member in members:
        if not member.filename.endswith(".npy"):
            raise fault(path, f"`{member.filename}` is not an array (.npy)")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise fault(path, f"`{member.filename}` is packed in a way that numpy does not write")
        if member.compress_size > packed or bomb(member.compress_size, member.file_size):
            text = f"declares {member.file_size:,} bytes out of {member.compress_size:,}"
            raise fault(path, f"`{member.filename}` {text}, over {RATIO} times as many")
    total = sum(member.file_size for member in members)
    if total > FREE and total > RATIO * packed:
        raise fault(path, f"declares {total:,} bytes, over {RATIO} times the file's {packed:,}")
    return members


def _stated_count(path: Path, archive: zipfile.ZipFile) -> int:
    """How many entries the end record states: a wrong length in one makes zipfile miss the next."""
    file = archive.fp
    assert file is not None
    file.seek(-_END.size - len(archive.comment), os.SEEK_END)
    mark, count = _END.unpack(file.read(_END.size))
    if mark != b"PK\5\6":
        raise fault(path, "the file goes on after the end of the archive")
    return int(count)


def _array(path: Path, key: str, stream: IO[bytes], length: int) -> Array:
    """The array of one entry of so many bytes, read to its end, where its checksum is compared."""
    header, offset = _header(path, key, stream)
    declared = prod(header.shape) * header.dtype.itemsize
    if declared != length - offset:
        text = f"{size(header.shape)} of {header.dtype} takes {declared:,} bytes"
        raise fault(path, f"`{key}`: {text}, the entry has {length - offset:,}")
    block = bytearray()
    while piece := stream.read(CHUNK):
        block += piece
    if len(block) != declared:
        raise fault(path, f"`{key}`: truncated: {declared:,} bytes declared, {len(block):,} found")
    flat = np.frombuffer(block, header.dtype)
    return flat.reshape(header.shape[::-1]).T if header.fortran else flat.reshape(header.shape)


def _header(path: Path, key: str, stream: IO[bytes]) -> tuple[_Header, int]:
    """An array's type and shape, and the offset of its values (numpy.lib.format)."""
    magic = stream.read(8)
    width = {1: 2, 2: 4, 3: 4}.get(magic[6] if len(magic) == 8 else 0)
    if magic[:6] != b"\x93NUMPY" or width is None:
        raise fault(path, f"`{key}`: does not begin as an array does")
    length = int.from_bytes(stream.read(width), "little")
    if length > _MAX_HEADER:
        raise fault(path, f"`{key}`: header of {length:,} bytes")
    text = stream.read(length).decode("latin-1")
    match = _HEADER.fullmatch(text)
    if match is None:
        raise fault(path, f"`{key}`: header {text[:80]!r} is not that of a plain array")
    code, fortran, axes = match.groups()
    shape = tuple(int(axis) for axis in axes.split(",") if axis.strip())
    if not shape:
        raise fault(path, f"`{key}`: a single value; the first axis of an array is the samples")
    return _Header(_dtype(path, key, code), fortran == "True", shape), 8 + width + length


def _dtype(path: Path, key: str, code: str) -> np.dtype[np.generic]:
    kind = code.lstrip("<>|=")
    if kind.startswith("O"):
        raise fault(path, f"`{key}`: Python objects (a pickle), which are never loaded")
    if kind not in _NUMBERS and not (key == "classes" and re.fullmatch("U[0-9]{1,3}", kind)):
        known = "integers and floats of up to 64 bits"
        raise fault(path, f"`{key}`: values of type {code}; arrays are of {known}")
    return np.dtype(code)


READER = Reader("an .npz of arrays (`data`, `label`, …)", _claims, _read, _probe)
