"""NumPy archives: read as numpy does, but for pickles, bombs, damage and unfit values."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netspec.data import Dataset, open_dataset
from netspec.diagnostics import DataError

ZipOf = Callable[..., Path]


def read(path: Path) -> Dataset:
    return open_dataset(path.name, split="train", base=path.parent)


def save(folder: Path, **arrays: Any) -> Path:
    path = folder / "set.npz"
    np.savez(path, **arrays)
    return path


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array))
    return buffer.getvalue()


def header(text: str, version: int = 1) -> bytes:
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes((version, 0)) + length + text.encode()


@pytest.mark.parametrize("save_with", [np.savez, np.savez_compressed])
def test_reads_what_numpy_writes(tmp_path: Path, save_with: Any) -> None:
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (6, 3, 4, 5)).astype(np.uint8)
    box = rng.standard_normal((6, 4))
    save_with(tmp_path / "set.npz", data=data, box=box, label=np.arange(6, dtype=np.int16))
    arrays = read(tmp_path / "set.npz").arrays
    assert arrays["data"].dtype == np.uint8
    assert (arrays["data"] == data).all()
    assert arrays["box"].dtype == np.float32
    assert (arrays["box"] == box.astype(np.float32)).all()
    assert arrays["label"].dtype == np.int64
    assert arrays["label"].tolist() == list(range(6))


@pytest.mark.parametrize(
    "code", ["u1", "i1", "<u2", ">u2", "<i4", ">i8", "<u8", "<f2", ">f4", "<f8"]
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_numbers_of_every_type_and_order(tmp_path: Path, code: str, order: Any) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(code, order=order)
    arrays = read(save(tmp_path, data=array, label=array)).arrays
    assert arrays["data"].dtype == (np.uint8 if code == "u1" else np.float32)
    assert arrays["label"].dtype == (np.float32 if "f" in code else np.int64)
    for converted in arrays.values():
        assert converted.flags.c_contiguous
        assert (converted == np.arange(24).reshape(2, 3, 4)).all()


def test_class_names(tmp_path: Path) -> None:
    path = save(tmp_path, data=np.zeros((2, 3)), classes=np.array(["cat", "Bär"]))
    assert read(path).classes == ("cat", "Bär")
    swapped = save(tmp_path, data=np.zeros((2, 3)), classes=np.array(["cat", "Bär"], ">U7"))
    assert read(swapped).classes == ("cat", "Bär")
    assert list(read(path).arrays) == ["data"]
    for wrong in (np.array([1, 2]), np.array([["a"]])):
        with pytest.raises(DataError, match="`classes`: holds the names"):
            read(save(tmp_path, data=np.zeros((2, 3)), classes=wrong))


def test_names_that_are_not_unicode(tmp_path: Path, zip_of: ZipOf) -> None:
    text = "{'descr': '<U1', 'fortran_order': False, 'shape': (1,), }\n"
    entries = {"data.npy": npy([1.0]), "classes.npy": header(text) + b"\xff\xff\xff\x7f"}
    with pytest.raises(DataError, match="`classes`: holds the names"):
        read(zip_of(tmp_path / "set.npz", entries))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([1.0, np.nan]), r"`data`: row 1: nan is not a finite number"),
        (np.array([[0.0, 1], [2, -np.inf]]), r"`data`: row 1: -inf is not"),
        (np.array([0.0, 1e300]), r"`data`: row 1: 1e\+300 is not a value that float32"),
        (np.array([0, 2**24 + 1]), r"`data`: row 1: 16777217 is not a value that float32"),
        (np.array([0, -(2**24) - 1]), r"`data`: row 1: -16777217 is not"),
        (np.array(5.0), r"`data`: a single value"),
        (np.array([1j]), r"`data`: values of type <c16"),
        (np.array([True]), r"`data`: values of type \|b1"),
        (np.array(["a"]), r"`data`: values of type <U1"),
        (np.array(["2020-01-01"], "M8[D]"), r"`data`: header .* is not that of a plain array"),
        (np.zeros(2, [("a", "f4")]), r"`data`: header .* is not that of a plain array"),
        (np.zeros((0, 3)), r"holds no samples"),
    ],
)
def test_values_that_do_not_fit(tmp_path: Path, array: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(save(tmp_path, data=array))


def test_labels_beyond_int64(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"`label`: row 1: 9223372036854775808 is not .* int64"):
        read(save(tmp_path, data=np.zeros(2), label=np.array([0, 2**63], np.uint64)))


def test_arrays_of_differing_counts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="differ in samples: 3 of `data`, 2 of `label`"):
        read(save(tmp_path, data=np.zeros((3, 4)), label=np.zeros(2, int)))


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    np.savez(tmp_path / "set.npz", data=np.array([Evil()], object), allow_pickle=True)
    with pytest.raises(
        DataError, match=r"`data`: Python objects \(a pickle\), which are never loaded"
    ):
        read(tmp_path / "set.npz")
    assert not (tmp_path / "ran").exists()


def test_a_header_is_not_evaluated(tmp_path: Path, zip_of: ZipOf) -> None:
    for text in (
        "{'descr': '<f4', 'fortran_order': False, 'shape': (10**9,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (٣,), }",
        "(" * 5000,
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }",
        "",
    ):
        path = zip_of(tmp_path / "set.npz", {"data.npy": header(text) + bytes(4)})
        with pytest.raises(DataError, match="is not that of a plain array"):
            read(path)
    path = zip_of(tmp_path / "set.npz", {"data.npy": header(" " * 20_000) + bytes(4)})
    with pytest.raises(DataError, match="header of 20,000 bytes"):
        read(path)


@pytest.mark.parametrize(
    "shape", ["(1099511627776,)", "(3,)", "(1,)", f"({2**62}, {2**62})", "(0, 5)"]
)
def test_a_header_that_lies(tmp_path: Path, zip_of: ZipOf, shape: str) -> None:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    path = zip_of(tmp_path / "set.npz", {"data.npy": header(text) + bytes(8)})
    with pytest.raises(DataError, match=r"takes [0-9,]+ bytes, the entry has 8"):
        read(path)


def test_headers_of_other_writers(tmp_path: Path, zip_of: ZipOf) -> None:
    """cnpy's spacing, and versions 2 and 3 of the format."""
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,1,), }    \n"
    for version in (1, 2, 3):
        path = zip_of(tmp_path / "set.npz", {"data.npy": header(text, version) + bytes(8)})
        assert read(path).arrays["data"].shape == (2, 1)


def test_bombs(tmp_path: Path, zip_of: ZipOf) -> None:
    """1 MiB that unpacks to 1 GiB, as one entry or as many: refused at once, for nothing."""
    text = "{'descr': '|u1', 'fortran_order': False, 'shape': (1073741824,), }"
    entry = header(text) + bytes(1 << 28)
    one = zip_of(tmp_path / "one.npz", {"data.npy": entry})
    many = zip_of(tmp_path / "many.npz", {f"a{i}.npy": npy(bytes(60 << 20)) for i in range(4)})
    for path in (one, many):
        assert path.stat().st_size < 1 << 20
        tracemalloc.start()
        start = time.process_time()
        with pytest.raises(DataError, match="over 200 times"):
            read(path)
        assert time.process_time() - start < 0.5
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
        tracemalloc.stop()


def test_entries_that_are_no_arrays(tmp_path: Path, zip_of: ZipOf) -> None:
    data = {"data.npy": npy([1.0])}
    with pytest.raises(DataError, match=r"`\.\./x\.txt` is not an array"):
        read(zip_of(tmp_path / "set.npz", {**data, "../x.txt": b"x"}))
    with pytest.raises(DataError, match="`b`: does not begin as an array does"):
        read(zip_of(tmp_path / "set.npz", {**data, "b.npy": b"x"}))
    with pytest.raises(DataError, match="packed in a way that numpy does not write"):
        read(zip_of(tmp_path / "set.npz", data, zipfile.ZIP_BZIP2))
    with pytest.raises(DataError, match="65 keys, more than 64"):
        read(zip_of(tmp_path / "set.npz", {f"{i}.npy": npy([1.0]) for i in range(65)}))
    with pytest.raises(DataError, match="holds no samples"):
        read(zip_of(tmp_path / "set.npz", {}))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_arrays_of_one_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        archive.writestr("data.npy", npy([1.0]))
        archive.writestr("data.npy", npy([2.0]))
    with pytest.raises(DataError, match="two arrays of one name"):
        read(tmp_path / "set.npz")


def test_what_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    for content in (b"", b"PK\5\6", npy([1.0]), bytes(1000)):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"set.npz: not an .npz, or a damaged one"):
            read(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match="no folders in it"):
        read(path)


def test_an_array_cannot_go_missing(tmp_path: Path) -> None:
    """Found by fuzzing: a comment of wrong length in the directory hides the arrays after it."""
    path = save(tmp_path, data=np.arange(5.0), label=np.arange(5))
    whole = bytearray(path.read_bytes())
    place = whole.index(b"PK\1\2") + 32
    for length, count in ((b"\xff\xff", 2), (b"\xff\xff", 1), (b"\x40\0", 1)):
        whole[place : place + 2] = length
        whole[-12] = count
        path.write_bytes(whole)
        assert list(np.load(path)) == ["data"], "numpy says nothing"
        with pytest.raises(DataError, match="does not hold as many arrays as it says"):
            read(path)


def test_bytes_after_the_archive(tmp_path: Path) -> None:
    path = save(tmp_path, data=np.arange(5.0))
    path.write_bytes(path.read_bytes() + b"junk")
    with pytest.raises(DataError, match="goes on after the end"):
        read(path)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, data=np.arange(5.0), label=np.arange(5))
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"set\.npz: "):
            read(path)
