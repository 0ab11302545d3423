"""Small data sets of every format, written by other code than the readers'."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


def idx_bytes(array: np.ndarray[Any, Any]) -> bytes:
    """The IDX file of a uint8 array."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def image_bytes(pixels: np.ndarray[Any, Any], form: str = "PNG", **options: Any) -> bytes:
    """A PNG or JPEG of an H x W or H x W x C array."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture
def pixels() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (3, 4, 5)).astype(np.uint8)


@pytest.fixture
def idx_folder(tmp_path: Path, pixels: np.ndarray[Any, Any]) -> Path:
    """Three 4x5 images and the labels 2, 0, 1 as train-…-ubyte."""
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_bytes(pixels))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.array([2, 0, 1])))
    return tmp_path


@pytest.fixture
def packed_folder(idx_folder: Path) -> Path:
    """The same, as gzip."""
    for path in list(idx_folder.iterdir()):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    return idx_folder


@pytest.fixture
def image_folder(tmp_path: Path) -> Callable[..., Path]:
    """Builds a folder of images from paths and arrays."""

    def build(**files: np.ndarray[Any, Any]) -> Path:
        for name, array in files.items():
            path = tmp_path / name.replace("__", "/").replace("_png", ".png").replace(
                "_jpg", ".jpg"
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image_bytes(array, "JPEG" if path.suffix == ".jpg" else "PNG"))
        return tmp_path

    return build


@pytest.fixture
def zip_of() -> Callable[..., Path]:
    """Writes an archive of raw entries."""

    def write(
        path: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED
    ) -> Path:
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, content in entries.items():
                archive.writestr(name, content)
        return path

    return write


def datum(
    pixels: np.ndarray[Any, Any] | None = None,
    label: int = 0,
    *,
    floats: np.ndarray[Any, Any] | None = None,
    encoded: bytes = b"",
) -> bytes:
    """A Datum by hand, its float_data unpacked as protobuf 2 writes them."""

    def varint(value: int) -> bytes:
        return bytes([value & 0x7F | 0x80]) + varint(value >> 7) if value > 0x7F else bytes([value])

    shape = next((a.shape for a in (pixels, floats) if a is not None), ())
    made = b"".join(bytes([field << 3]) + varint(n) for field, n in enumerate(shape, 1))
    content = encoded or (b"" if pixels is None else pixels.astype(np.uint8).tobytes())
    if content:
        made += b"\x22" + varint(len(content)) + content
    made += b"\x28" + varint(label)
    for value in [] if floats is None else floats.reshape(-1):
        made += b"\x35" + struct.pack("<f", value)
    return made + (b"\x38\x01" if encoded else b"")


@pytest.fixture
def database(tmp_path: Path) -> Callable[..., Path]:
    """Writes an LMDB, by its own library, of records under rising keys."""
    import lmdb

    def write(*records: bytes, name: str = "set") -> Path:
        with (
            lmdb.open(str(tmp_path / name), map_size=1 << 28) as environment,
            environment.begin(write=True) as transaction,
        ):
            for i, record in enumerate(records):
                transaction.put(b"%08d" % i, record)
        return tmp_path / name

    return write
