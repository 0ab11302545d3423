"""CIFAR-10 and CIFAR-100 in their four forms: what is read, and what is refused, byte by byte."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netspec.data import Dataset, open_dataset, probe
from netspec.data.files.pickled import MAX_STEPS, read_pickle
from netspec.diagnostics import DataError
from netspec.ir.sections import DataSection

from .cifar_files import COARSE, FINE, TEN, hundred, images, pickled, records, tarred, ten

Files = dict[str, bytes]


def laid(folder: Path, files: Files) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def opened(path: Path, split: str = "train", **fields: Any) -> Dataset:
    section = DataSection(source=path.name, batch_size=1, **fields)
    return open_dataset(path.name, split=split, base=path.parent, section=section)


@pytest.mark.parametrize("packed", ["folder", "w:gz", "w"])
@pytest.mark.parametrize("pickles", [False, True])
def test_cifar10(tmp_path: Path, pickles: bool, packed: str) -> None:
    path = tmp_path / ("cifar" if packed == "folder" else "cifar.tar.gz")
    if packed == "folder":
        laid(path, ten(pickles))
    else:
        path.write_bytes(tarred(ten(pickles), mode=packed))
    train, test = opened(path), opened(path, "test")
    pixels = np.concatenate([images(3, i) for i in range(5)])
    np.testing.assert_array_equal(train.arrays["data"], pixels)
    np.testing.assert_array_equal(test.arrays["data"], images(3, 5))
    assert train.arrays["label"].tolist() == [i + j for i in range(5) for j in range(3)]
    assert test.arrays["label"].tolist() == [5, 6, 7]
    assert train.classes == test.classes == tuple(name.decode() for name in TEN)
    assert probe(path.name, tmp_path) == {"data": (3, 32, 32), "label": ()}


@pytest.mark.parametrize("pickles", [False, True])
def test_cifar100_has_two_kinds_of_labels(tmp_path: Path, pickles: bool) -> None:
    path = laid(tmp_path / "cifar", hundred(pickles))
    found = opened(path)
    assert {name: array.tolist() for name, array in found.arrays.items() if name != "data"} == {
        "label": [99, 98, 97],
        "fine_label": [99, 98, 97],
        "coarse_label": [19, 18, 17],
    }
    assert found.classes == tuple(name.decode() for name in FINE)
    coarse = opened(path, label="coarse_label")
    assert coarse.arrays["label"].tolist() == [19, 18, 17]
    assert coarse.classes == tuple(name.decode() for name in COARSE)
    with pytest.raises(DataError, match="has no `size`; its labels are coarse_label, fine_label"):
        opened(path, label="size")


def test_every_truncation_is_seen(tmp_path: Path) -> None:
    for pickles, name in ((False, "data_batch_2.bin"), (True, "data_batch_2")):
        files = ten(pickles, 1)
        path = laid(tmp_path / f"cifar{pickles}", files)
        whole = files[name]
        for length in [*range(0, len(whole), 97), *range(len(whole) - 40, len(whole))]:
            (path / name).write_bytes(whole[:length])
            with pytest.raises(DataError, match=rf"{name}: byte [0-9]+: "):
                opened(path)


def test_a_cut_between_images_is_seen(tmp_path: Path) -> None:
    path = laid(tmp_path / "cifar", ten())
    whole = (path / "data_batch_3.bin").read_bytes()
    (path / "data_batch_3.bin").write_bytes(whole[: 2 * 3073])
    with pytest.raises(DataError, match=r"data_batch_3.bin: 2 images, and 3 in data_batch_1.bin"):
        opened(path)


def test_every_truncation_of_an_archive_is_seen(tmp_path: Path) -> None:
    whole = tarred(ten(count=1))
    path = tmp_path / "cifar.tar.gz"
    for length in [*range(0, len(whole), 501), *range(len(whole) - 20, len(whole) - 8)]:
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cifar.tar.gz: byte [0-9]+"):
            opened(path)


@pytest.mark.parametrize(
    ("make", "name", "content", "message"),
    [
        (ten, "data_batch_1.bin", records(images(2), [0, 10]),
         r"data_batch_1.bin: byte 3073: image 1: label 10 is outside \[0, 10\)"),
        (hundred, "train.bin", records(images(2), [0, 20], [0, 0]),
         r"train.bin: byte 3074: image 1: coarse_label 20 is outside \[0, 20\)"),
        (hundred, "train.bin", records(images(2), [0, 19], [99, 100]),
         r"train.bin: byte 3075: image 1: fine_label 100 is outside \[0, 100\)"),
        (ten, "data_batch_1.bin", records(images(2), [0, 1]) + b"x",
         "byte 6146: truncated: 6,147 bytes are no whole number of records of 3,073"),
        (ten, "data_batch_1.bin", b"", "byte 0: truncated: 0 bytes"),
        (ten, "batches.meta.txt", b"a\nb\n", "names 2 classes for 10 of `label`"),
        (ten, "batches.meta.txt", b"a\n" * 10, "names 1 classes for 10 of `label`"),
        (ten, "batches.meta.txt", b"\xff\n" * 10, "a name is not text of UTF-8"),
        (ten, "data_batch_4.bin", None, "data_batch_4.bin: cannot be read: No such file"),
    ],
)  # fmt: skip
def test_binary_faults(
    tmp_path: Path, make: Callable[[], Files], name: str, content: bytes | None, message: str
) -> None:
    path = laid(tmp_path / "cifar", make())
    (path / name).unlink() if content is None else (path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        opened(path)


PIXELS = images(2).reshape(2, -1)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({b"data": PIXELS, b"labels": [0, 10]}, r"image 1: label 10 is outside \[0, 10\)"),
        ({b"data": PIXELS, b"labels": [0, -1]}, r"image 1: label -1 is outside"),
        ({b"data": PIXELS, b"labels": [0]}, "`labels` is 1, for 2 images"),
        ({b"data": PIXELS}, "`labels` is no list, for 2 images"),
        ({b"data": PIXELS, b"labels": [0, b"1"]}, "`labels`: image 1: not a whole number"),
        ({b"data": PIXELS[:, 1:], b"labels": [0, 1]}, "`data` is 2x3071, not N x 3,072 bytes"),
        ({b"labels": [0, 1]}, "`data` is nothing"),
        ([1], "`data` is nothing"),
    ],
)
def test_pickles_of_something_else(tmp_path: Path, value: object, message: str) -> None:
    path = laid(tmp_path / "cifar", ten(pickles=True))
    (path / "data_batch_1").write_bytes(pickled(value))
    with pytest.raises(DataError, match=f"data_batch_1: {message}"):
        opened(path)


class Hostile:
    """What runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_hostile_pickles_run_nothing(tmp_path: Path, protocol: int) -> None:
    path, target = laid(tmp_path / "cifar", ten(pickles=True)), tmp_path / "owned"
    (path / "data_batch_1").write_bytes(pickle.dumps(Hostile(target), protocol))
    with pytest.raises(DataError, match=r"never called|which is not carried out"):
        opened(path)
    assert not target.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a pickle, or a damaged one"),
        (b"\x80\x02cnumpy\nload\n.", "byte 2: asks for `numpy.load`, which is never called"),
        (b"cbuiltins\neval\n(S'1'\ntR.", "asks for `builtins.eval`"),
        (b"cnumpy\nndarray\nK\x01\x85R.", "an array is made in another way"),
        (b"K\x01R.", "damaged one"),
        (b"(K\x01K\x01u.", "damaged one"),
        (b"}(]K\x01u.", "list where bytes belongs"),
        (b"K\x01K\x01.", "damaged one"),
        (b"h\x05.", "damaged one"),
        (b"K\x01.K\x01", "byte 3: the file goes on after its value"),
        (b"T\xff\xff\xff\x7fa.", "expected 2147483647 bytes in a string4, but only 2 remain"),
        (b"I" + b"9" * 5000 + b"\n.", "damaged one"),
        (b"(" * 10 + b"t.", "damaged one"),
        (b"\x8e" + b"\xff" * 8, "damaged one"),
    ],
)
def test_opcodes(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_pickle("a", content)


def test_values_of_both_protocols() -> None:
    value = [1, [b"x" * 300], {b"a": 70000, b"b": -1}]
    assert read_pickle("a", pickled(value)) == value
    assert read_pickle("a", b"(dp0\nS'a'\np1\n(lp2\nI1\naI-1\naI01\naNas.") == {
        b"a": [1, -1, True, None]
    }
    assert read_pickle("a", b"(U\x01bt)U\x01c\x85\x87.") == ((b"b",), (), (b"c",))


def test_steps_are_counted() -> None:
    with pytest.raises(DataError, match="over 2,000,000 opcodes"):
        read_pickle("a", b"]" * (MAX_STEPS + 2) + b".")


def test_an_array_in_the_order_of_columns() -> None:
    made = pickled(np.arange(6, dtype=np.uint8).reshape(2, 3)).replace(b"\x89", b"\x88")
    expected = np.arange(6).reshape(3, 2).T
    np.testing.assert_array_equal(read_pickle("a", made), expected)


class TestTar:
    def test_of_something_else(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tgz"
        path.write_bytes(tarred({"a.txt": b"a"}))
        with pytest.raises(DataError, match="an archive, but not of CIFAR"):
            opened(path)

    def test_twice_the_same_name(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tar"
        one = tarred(ten(), "one", "w")[:-10240].rstrip(b"\0")
        one += bytes(-len(one) % 512)
        path.write_bytes(one + tarred(ten(), "two", "w"))
        with pytest.raises(DataError, match=r"byte [0-9]+: a second `data_batch_1.bin`: `two/"):
            opened(path)

    def test_links_are_not_followed(self, tmp_path: Path) -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            entry = tarfile.TarInfo("cifar/data_batch_1.bin")
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(entry)
        path = tmp_path / "a.tar"
        path.write_bytes(buffer.getvalue())
        with pytest.raises(DataError, match=r"`cifar/data_batch_1.bin` is no plain file"):
            opened(path)

    def test_a_damaged_header(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tar"
        content = bytearray(tarred(ten(), mode="w"))
        content[600] ^= 1
        path.write_bytes(content)
        with pytest.raises(DataError, match="byte 512: not a header of a tar archive"):
            opened(path)

    def test_a_bomb(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tar.gz"
        path.write_bytes(tarred({"zeros": bytes(80 << 20)}))
        assert path.stat().st_size < 1 << 20
        with pytest.raises(DataError, match="unpacks to over 200 times the file's size"):
            opened(path)
