"""Caffe's databases: a folder of Datums by key, in LMDB."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from netspec.data.dataset import LABEL, Array, Dataset, Reader, Wanted
from netspec.data.encoded import Encoded
from netspec.data.file import fault
from netspec.data.files.image import strict
from netspec.data.files.lmdb import FILE, Record, records
from netspec.data.formats.datum import Datum
from netspec.data.lazy import Lazy
from netspec.diagnostics import printable
from netspec.ir.types import Shape, TensorType, size
from netspec.wire import WireError

LEVELDB = (
    "a LEVELDB, which is not read: make an LMDB of it with Caffe's `convert_imageset "
    "--backend=lmdb` from the images, or by copying each record in Python, from `plyvel` to `lmdb`"
)


def _claims(path: Path) -> bool:
    return path.name == FILE or (path / FILE).is_file() or _is_leveldb(path)


def _is_leveldb(path: Path) -> bool:
    return (path / "CURRENT").is_file() and any(path.glob("MANIFEST-*"))


def _read(path: Path, wanted: Wanted) -> Dataset:
    file = _file(path)
    found = list(records(file))
    if not found:
        raise fault(path, "holds no samples")
    first = _datum(path, found[0])
    if first.encoded:
        images = _encoded(path, found, wanted)
        with strict():
            data = images.lazy(_shape(first, images, wanted))
    else:
        data = _stored(path, found, first, wanted)
    label = np.array([_datum(path, record).label for record in found], np.int64)
    return Dataset({"label": label}, (), str(path), streamed={"data": data})


def _probe(path: Path, wanted: Wanted) -> dict[str, TensorType]:
    record = next(records(_file(path)), None)
    if record is None:
        raise fault(path, "holds no samples")
    first = _datum(path, record)
    kind = "float32" if _kind(first) == "values" else "uint8"
    with strict():
        shape = _shape(first, _encoded(path, [record], wanted), wanted)
        return {"data": TensorType(shape, kind), "label": LABEL}


def _file(path: Path) -> Path:
    if _is_leveldb(path):
        raise fault(path, LEVELDB)
    return path / FILE if path.is_dir() else path


def _shape(first: Datum, images: Encoded, wanted: Wanted) -> Shape:
    """C x H x W of the first image, which is that of all."""
    if not first.encoded:
        return first.shape
    transform = wanted.section.transform
    channels, *extent = images.natural_shape()
    if transform.force_color or transform.force_gray:
        channels = 3 if transform.force_color else 1
    return (channels, *extent)


def _stored(path: Path, found: list[Record], first: Datum, wanted: Wanted) -> Lazy:
    """The values as they lie there."""
    kind, shape = _kind(first), first.shape

    def decode(row: int) -> Array:
        datum = _datum(path, found[row])
        if (_kind(datum), datum.shape) != (kind, shape):
            text = f"{_kind(datum)} of {size(datum.shape)}, where the first holds {kind} of"
            raise fault(_name(path, found[row]), f"{text} {size(shape)}")
        return datum.values

    return Lazy(
        (len(found), *shape),
        decode=decode,
        natural=lambda row: _datum(path, found[row]).values,
        name=lambda row: printable(_name(path, found[row])),
        dtype=np.dtype(np.uint8 if kind == "bytes" else np.float32),
        tolerance=wanted.tolerance,
    )


def _encoded(path: Path, found: list[Record], wanted: Wanted) -> Encoded:
    """The image files in the records."""

    def content(row: int) -> memoryview:
        datum = _datum(path, found[row])
        if not datum.encoded:
            raise fault(_name(path, found[row]), "not encoded, as the first is")
        return datum.data

    return Encoded(
        len(found),
        name=lambda row: _name(path, found[row]),
        content=content,
        order=wanted.order("BGR"),
        tolerance=wanted.tolerance,
    )


def _kind(datum: Datum) -> str:
    if datum.encoded:
        return "an encoded image"
    return "bytes" if len(datum.data) else "values"


def _datum(path: Path, record: Record) -> Datum:
    try:
        return Datum.read(record.value)
    except WireError as error:
        raise fault(_name(path, record), str(error)) from None


def _name(path: Path, record: Record) -> str:
    """What faults call a record."""
    return f"{path}: key {printable(record.key.decode('utf-8', 'backslashreplace'))}"


READER = Reader(
    "an LMDB of Caffe's (a folder with data.mdb)",
    _claims,
    _read,
    _probe,
    frozenset({"force_color", "force_gray", "cache"}),
    order="BGR",
    files=lambda path, _: [_file(path)],
)
