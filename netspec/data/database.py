"""Caffe's databases: a folder of Datums by key, in LMDB."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from netspec.data.dataset import LABEL, Array, Dataset, Reader, Wanted, afford
from netspec.data.datum import Datum
from netspec.data.decoding import decode_all
from netspec.data.file import fault
from netspec.data.image import decode_bytes, natural_shape_of, strict
from netspec.data.lmdb import FILE, Record, records
from netspec.diagnostics import printable
from netspec.ir.sections import ColourOrder
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
    with strict():
        shape = _shape(path, found[0], first, wanted)
        if first.encoded:
            data, label = _decoded(path, found, shape, wanted.order("BGR"))
        else:
            data, label = _stored(path, found, shape)
    return Dataset({"data": data, "label": label}, (), str(path))


def _probe(path: Path, wanted: Wanted) -> dict[str, TensorType]:
    record = next(records(_file(path)), None)
    if record is None:
        raise fault(path, "holds no samples")
    first = _datum(path, record)
    kind = "float32" if _kind(first) == "values" else "uint8"
    with strict():
        return {"data": TensorType(_shape(path, record, first, wanted), kind), "label": LABEL}


def _file(path: Path) -> Path:
    if _is_leveldb(path):
        raise fault(path, LEVELDB)
    return path / FILE if path.is_dir() else path


def _shape(path: Path, record: Record, first: Datum, wanted: Wanted) -> Shape:
    """C x H x W of the first image, which is that of all."""
    if not first.encoded:
        return first.shape
    transform = wanted.section.transform
    channels, *extent = natural_shape_of(_name(path, record), first.data)
    if transform.force_color or transform.force_gray:
        channels = 3 if transform.force_color else 1
    return (channels, *extent)


def _stored(path: Path, found: list[Record], shape: Shape) -> tuple[Array, Array]:
    """The values as they lie there, and the labels."""
    kind = _kind(_datum(path, found[0]))
    bytewise = kind == "bytes"
    afford(path, len(found), "records", shape, 1 if bytewise else 4)
    data = np.empty((len(found), *shape), np.uint8 if bytewise else np.float32)
    label = np.empty(len(found), np.int64)
    for row, record in enumerate(found):
        datum = _datum(path, record)
        if (_kind(datum), datum.shape) != (kind, shape):
            text = f"{_kind(datum)} of {size(datum.shape)}, where the first holds {kind} of"
            raise fault(_name(path, record), f"{text} {size(shape)}")
        data[row], label[row] = datum.values, datum.label
    return data, label


def _decoded(
    path: Path, found: list[Record], shape: Shape, order: ColourOrder
) -> tuple[Array, Array]:
    """The images of encoded records, and the labels."""
    label = np.empty(len(found), np.int64)

    def decode(row: int) -> Array:
        datum = _datum(path, found[row])
        name = _name(path, found[row])
        if not datum.encoded:
            raise fault(name, "not encoded, as the first is")
        label[row] = datum.label
        return decode_bytes(name, datum.data, shape, order)

    return decode_all(path, len(found), shape, decode), label


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
    frozenset({"force_color", "force_gray"}),
    order="BGR",
)
