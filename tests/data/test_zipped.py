"""Image folders in a zip: the layouts of a folder, and archives that are not to be trusted."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from netspec.data import open_dataset, probe, validates
from netspec.diagnostics import DataError

from .conftest import image_bytes

RNG = np.random.default_rng(0)
IMAGE = image_bytes(RNG.integers(0, 256, (4, 5, 3)).astype(np.uint8))
REAL = Path(__file__).parents[3] / "shared/data/cifar10-12k-jpg.zip"

Zip = Callable[..., Path]


def made(path: Path, *names: str, content: bytes = IMAGE) -> Path:
    """An archive of the same image under each name; a folder where it ends in a slash."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"" if name.endswith("/") else content)
    return path


def opened(path: Path, split: str = "train") -> tuple[tuple[str, ...], list[int]]:
    found = open_dataset(path.name, split=split, base=path.parent)
    return found.classes, found.arrays["label"].tolist()


@pytest.mark.parametrize("top", ["", "set/", "a/b/"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_one_folder_per_class(tmp_path: Path, top: str, split: str) -> None:
    names = ("ant/1.png", "ant/deep/2.PNG", "bee/1.png", "readme.txt", "bee/notes.txt")
    path = made(tmp_path / "a.zip", *(top + name for name in names))
    assert opened(path, split) == (("ant", "bee"), [0, 0, 1])
    assert probe("a.zip", tmp_path) == {"data": (3, 4, 5), "label": ()}


@pytest.mark.parametrize("top", ["", "set/"])
def test_splits(tmp_path: Path, top: str) -> None:
    names = ["train/ant/1.png", "train/bee/1.png", "test/bee/1.png", "val/ant/1.png"]
    path = made(tmp_path / "a.zip", *(top + name for name in names))
    assert opened(path) == (("ant", "bee"), [0, 1])
    assert opened(path, "test") == (("ant", "bee"), [1])
    assert opened(path, "val") == (("ant", "bee"), [0])
    assert validates("a.zip", tmp_path)
    path = made(tmp_path / "b.zip", *(top + name for name in names if "test" not in name))
    assert opened(path, "test") == (("ant", "bee"), [0])
    assert not validates("b.zip", tmp_path)


def test_the_split_alone_is_no_folder_around_it_all(tmp_path: Path) -> None:
    path = made(tmp_path / "a.zip", "train/ant/1.png", "train/bee/1.png")
    assert opened(path) == (("ant", "bee"), [0, 1])
    with pytest.raises(DataError, match="no folder test or val beside that of the train images"):
        opened(path, "test")


def test_hidden_files_and_those_of_macos(tmp_path: Path) -> None:
    names = ("s/ant/1.png", "s/ant/.2.png", "__MACOSX/s/ant/._1.png", "s/.git/x/1.png")
    assert opened(made(tmp_path / "a.zip", *names)) == (("ant",), [0])


def test_the_same_as_the_folder(tmp_path: Path, image_folder: Callable[..., Path]) -> None:
    images = RNG.integers(0, 256, (3, 6, 7, 3)).astype(np.uint8)
    folder = image_folder(b__1_png=images[0], a__2_jpg=images[1], a__1_png=images[2])
    path = tmp_path.parent / f"{tmp_path.name}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.rglob("*.[jp]*"):
            archive.write(file, file.relative_to(folder))
    one = open_dataset(folder.name, split="train", base=folder.parent)
    other = open_dataset(path.name, split="train", base=path.parent)
    assert one.classes == other.classes
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, other.arrays[name])


@pytest.mark.skipif(not REAL.is_file(), reason="the data of the benchmarks are not here")
def test_a_real_one() -> None:
    found = open_dataset(REAL.name, split="test", base=REAL.parent)
    assert found.arrays["data"].shape == (2000, 3, 32, 32)
    assert np.bincount(found.arrays["label"]).tolist() == [200] * 10
    assert found.classes[0] == "airplane"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a/../../x.png",), r"a/../../x.png \(byte 0\): its name leads out"),
        (("/etc/a.png",), "its name leads out of the archive"),
        (("C:/a/a.png",), "its name leads out of the archive"),
        (("a//b.png",), "its name leads out of the archive"),
        (("./a/b.png",), "its name leads out of the archive"),
        (("a\\..\\b.png",), "its name leads out of the archive"),
        (("a/1.png", "a/2.gif"), r"a/2.gif \(byte 1[0-9]+\): images are read from .png, .jpg"),
        (("a/1.png", "b/"), "`b`: no images of this class"),
        (("1.png",), "no folders in it; images lie in one folder per class"),
        ((), "no folders in it"),
        (("train/a/1.png", "test/b/1.png"), "`test/b`: a class that the training images do not"),
    ],
)
def test_names(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    path = made(tmp_path / "a.zip", *names)
    with pytest.raises(DataError, match=message):
        opened(path, "test")


def test_twice_the_same_name(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = made(tmp_path / "a.zip", "a/1.png", "a/1.png")
    with pytest.raises(DataError, match=r"a/1.png \(byte [1-9][0-9]*\): stands in the archive tw"):
        opened(path)


def test_a_link(tmp_path: Path) -> None:
    entry = zipfile.ZipInfo("a/1.png")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(DataError, match="is a link or a device, not a file"):
        opened(tmp_path / "a.zip")


def patched(path: Path, offset: int, value: int, form: str = "<H") -> None:
    """Set a field of the first entry of the directory (APPNOTE 4.3.12)."""
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, content.find(b"PK\1\2") + offset, value)
    path.write_bytes(content)


def test_encrypted(tmp_path: Path) -> None:
    path = made(tmp_path / "a.zip", "a/1.png")
    patched(path, 8, 1)
    with pytest.raises(DataError, match=r"a/1.png \(byte 0\): is encrypted"):
        opened(path)


def test_another_method(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a/1.png", IMAGE)
    with pytest.raises(DataError, match="is packed by another method than deflate"):
        opened(tmp_path / "a.zip")


@pytest.mark.parametrize("size", [100 << 20, 0xFFFFFFF0])
def test_bombs(tmp_path: Path, size: int) -> None:
    path = made(tmp_path / "a.zip", "a/1.png")
    patched(path, 24, size, "<L")
    with pytest.raises(DataError, match=rf"a/1.png \(byte 0\): declares {size:,} bytes out of"):
        opened(path)


def test_a_checksum_that_does_not_hold(tmp_path: Path) -> None:
    path = made(tmp_path / "a.zip", "a/1.png", "a/2.png")
    content = bytearray(path.read_bytes())
    content[content.rfind(b"IDAT") + 20] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        DataError, match=r"a/2.png \(byte [1-9][0-9]*\): damaged: its length or its"
    ):
        opened(path)


def test_more_entries_than_the_directory_states(tmp_path: Path) -> None:
    path = made(tmp_path / "a.zip", "a/1.png", "a/2.png")
    patched(path, 32, 60)  # the remark of the first swallows the second
    with pytest.raises(DataError, match=r"its directory does not hold|damaged"):
        opened(path)


def test_every_truncation_is_seen(tmp_path: Path) -> None:
    path = made(tmp_path / "a.zip", "a/1.png", "b/1.png")
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"a.zip: byte [0-9]+: not a zip archive, or trunc"):
            opened(path)


def test_an_image_of_another_size_is_named(tmp_path: Path) -> None:
    path = made(tmp_path / "a.zip", "a/1.png")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a/2.png", image_bytes(np.zeros((3, 3), np.uint8)))
    with pytest.raises(DataError, match=r"a.zip: a/2.png \(byte [1-9][0-9]*\): image of 3x3, the"):
        opened(path)


@pytest.mark.parametrize(("old", "new"), [(b"a/1.png", b"c/1.png"), (b"a/1.png", b"a/1.pnG")])
def test_a_name_that_is_not_that_of_the_file(tmp_path: Path, old: bytes, new: bytes) -> None:
    """Found by fuzzing: no checksum covers the directory."""
    path = made(tmp_path / "a.zip", "a/1.png", "b/1.png")
    content = path.read_bytes()
    at = content.rfind(old)
    path.write_bytes(content[:at] + new + content[at + len(new) :])
    with pytest.raises(DataError, match=r"\(byte 0\): damaged: no file of that name begins there"):
        opened(path)


def test_names_of_other_alphabets(tmp_path: Path) -> None:
    assert opened(made(tmp_path / "a.zip", "Ärger/1.png", "犬/1.png"))[0] == ("Ärger", "犬")


def test_a_zip_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(bytes(1000))
    with pytest.raises(DataError, match="not a zip archive"):
        opened(tmp_path / "a.zip")
    (tmp_path / "folder.zip").mkdir()
    with pytest.raises(DataError, match="no folders in it"):
        opened(tmp_path / "folder.zip")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w"):
        pass
    huge = bytearray(buffer.getvalue())
    struct.pack_into("<L", huge, 12, 300 << 20)
    (tmp_path / "a.zip").write_bytes(huge)
    with pytest.raises(DataError, match="its directory takes 314,572,800 bytes"):
        opened(tmp_path / "a.zip")
