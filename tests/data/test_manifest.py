"""What a manifest notices, and what it looks like."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from netspec.data import manifest_for, open_dataset
from netspec.data.manifest import beside, read_manifest
from netspec.diagnostics import DataError
from netspec.ir.sections import DataSection

from .conftest import datum, image_bytes

RGB = np.random.default_rng(0).integers(0, 256, (6, 6, 3)).astype(np.uint8)


def section(source: str, **said: Any) -> DataSection:
    return DataSection(source=source, batch_size=1, **said)


def lock(folder: Path, source: str, **said: Any) -> Path:
    found, text = manifest_for(section(source, **said), folder)
    found.path.write_text(text)
    return found.path


def opened(folder: Path, source: str, split: str = "train", **said: Any) -> Any:
    return open_dataset(source, split=split, base=folder, section=section(source, **said))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("train/a/x.jpg", "train/b/ä y.jpg", "test/a/z.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image_bytes(RGB, "JPEG" if name.endswith("jpg") else "PNG"))
    return tmp_path / "photos"


def test_what_it_looks_like(photos: Path) -> None:
    """sha256sum says the same of the files."""
    place = lock(photos.parent, "photos")
    assert place == photos.parent / "photos.lock"
    head, *lines = place.read_text().splitlines()
    assert head == "netspec-data 1"
    names = ["test/a/z.png", "train/a/x.jpg", "train/b/ä y.jpg"]
    assert [line.split("  ")[2] for line in lines] == names
    for line, name in zip(lines, names, strict=True):
        digest, size, _ = line.split("  ")
        said = subprocess.run(["sha256sum", photos / name], capture_output=True, text=True)
        assert said.stdout.split()[0] == digest
        assert (photos / name).stat().st_size == int(size)
    found = read_manifest(place, photos)
    assert found.digest == hashlib.sha256(place.read_bytes()).hexdigest()
    assert found.size == sum((photos / name).stat().st_size for name in names)


def test_a_source_as_it_was_passes(photos: Path) -> None:
    place = lock(photos.parent, "photos")
    for split, count in (("train", 2), ("test", 1)):
        dataset = opened(photos.parent, "photos", split)
        assert len(dataset) == count
        assert dataset.manifest == hashlib.sha256(place.read_bytes()).hexdigest()
    place.unlink()
    assert opened(photos.parent, "photos").manifest is None


def test_every_bit_of_a_jpeg(photos: Path) -> None:
    """Without a manifest many change the image, and nobody is told."""
    file = photos / "train/a/x.jpg"
    whole = file.read_bytes()
    place = lock(photos.parent, "photos")
    kept = place.read_bytes()
    silent = 0
    before = opened(photos.parent, "photos").arrays["data"]
    for bit in range(0, 8 * len(whole), 37):
        at, shift = divmod(bit, 8)
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << shift]) + whole[at + 1 :])
        with pytest.raises(DataError, match=r"photos/train/a/x\.jpg: has changed: its sha256 is"):
            opened(photos.parent, "photos")
        place.unlink()
        with suppress(DataError):
            silent += bool((opened(photos.parent, "photos").arrays["data"] != before).any())
        place.write_bytes(kept)
    assert silent > 10


class TestFiles:
    def test_missing_and_surplus(self, photos: Path) -> None:
        place = lock(photos.parent, "photos")
        (photos / "train/b/new.jpg").write_bytes(image_bytes(RGB, "JPEG"))
        (photos / "train/a/x.jpg").rename(photos / "train/a/w.jpg")
        with pytest.raises(DataError) as caught:
            opened(photos.parent, "photos")
        assert str(caught.value) == (
            f"{place}: 1 file missing: train/a/x.jpg; "
            "2 files not in it: train/a/w.jpg, train/b/new.jpg"
        )

    def test_many(self, photos: Path) -> None:
        lock(photos.parent, "photos")
        for number in range(7):
            (photos / f"train/a/{number}.jpg").write_bytes(b"")
        with pytest.raises(DataError, match=r"7 files not in it: .*train/a/4\.jpg and 2 more$"):
            opened(photos.parent, "photos")

    def test_another_size(self, photos: Path) -> None:
        place = lock(photos.parent, "photos")
        file = photos / "train/a/x.jpg"
        size = file.stat().st_size
        file.write_bytes(file.read_bytes() + b"x")
        with pytest.raises(DataError) as caught:
            opened(photos.parent, "photos")
        assert str(caught.value) == f"{file}: has {size + 1:,} bytes, and {size:,} by {place}"

    def test_a_name_of_any_kind(self, photos: Path) -> None:
        for name in ('"quoted".jpg', "new\nline.jpg", "tab\t.jpg", "esc\x1b.jpg", "ünï.jpg"):
            (photos / "train/a" / name).write_bytes(image_bytes(RGB, "JPEG"))
        place = lock(photos.parent, "photos")
        assert len(opened(photos.parent, "photos")) == 7
        text = place.read_text()
        assert "\x1b" not in text
        assert '  "train/a/new\\nline.jpg"\n' in text
        assert "  train/a/ünï.jpg\n" in text


def test_a_single_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", data=np.zeros((4, 2), np.uint8))
    place = lock(tmp_path, "set.npz")
    assert place == tmp_path / "set.npz.lock"
    assert place.read_text().endswith("  set.npz\n")
    assert opened(tmp_path, "set.npz").manifest
    np.savez(tmp_path / "set.npz", data=np.ones((4, 2), np.uint8))
    with pytest.raises(DataError, match=r"set\.npz: has changed"):
        opened(tmp_path, "set.npz")


def test_the_files_of_idx(idx_folder: Path) -> None:
    assert len(lock(idx_folder.parent, idx_folder.name).read_text().splitlines()) == 3
    opened(idx_folder.parent, idx_folder.name)
    labels = idx_folder / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\2")
    with pytest.raises(DataError, match="labels-idx1-ubyte: has changed"):
        opened(idx_folder.parent, idx_folder.name)
    one = f"{idx_folder.name}/train-images-idx3-ubyte"
    lock(idx_folder.parent, one)
    opened(idx_folder.parent, one)


def test_a_list_and_what_it_lists(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/set.txt").write_text("a.png 0\nb.png 1\n")
    for name in "ab":
        Image.fromarray(RGB).save(tmp_path / f"{name}.png")
    said = {"root_folder": "."}
    names = lock(tmp_path, "lists/set.txt", **said).read_text().splitlines()[1:]
    assert [line.split("  ")[2] for line in names] == ["../a.png", "../b.png", "set.txt"]
    opened(tmp_path, "lists/set.txt", **said)
    Image.fromarray(RGB[::-1]).save(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"b\.png: (has changed|has .* bytes)"):
        opened(tmp_path, "lists/set.txt", **said)
    (tmp_path / "lists/set.txt").write_text("a.png 0\na.png 1\n")
    with pytest.raises(DataError, match=r"1 file missing: \.\./b\.png"):
        opened(tmp_path, "lists/set.txt", **said)


def test_a_database(database: Callable[..., Path]) -> None:
    folder = database(datum(RGB.transpose(2, 0, 1)), datum(RGB.transpose(2, 0, 1), 1))
    lock(folder.parent, folder.name)
    opened(folder.parent, folder.name)
    file = folder / "data.mdb"
    whole = bytearray(file.read_bytes())
    whole[-1] ^= 1
    file.write_bytes(whole)
    with pytest.raises(DataError, match=r"data\.mdb: has changed"):
        opened(folder.parent, folder.name)


def test_a_manifest_elsewhere(photos: Path) -> None:
    found, text = manifest_for(section("photos", manifest="kept.txt"), photos.parent)
    assert found.path == photos.parent / "kept.txt"
    with pytest.raises(DataError, match=r"kept\.txt: cannot be read: No such file"):
        opened(photos.parent, "photos", manifest="kept.txt")
    found.path.write_text(text)
    assert opened(photos.parent, "photos", manifest="kept.txt").manifest == found.digest


@pytest.mark.parametrize("source", [".", "../photos", "./"])
def test_beside_a_folder_called_by_its_place(photos: Path, source: str) -> None:
    assert beside(photos / source).resolve() == photos.parent.resolve() / "photos.lock"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: a manifest begins with"),
        ("netspec-data 2\n", "line 1: a manifest begins with"),
        ("netspec-data 1", "truncated"),
        ("netspec-data 1\nx", "truncated"),
        ("netspec-data 1\nx\n", "line 2: not `sha256  bytes  name`: x"),
        (f"netspec-data 1\n{'0' * 64}  01  a\n", "line 2: not"),
        (f"netspec-data 1\n{'0' * 64}  1  a\n{'0' * 64}  1  a\n", "line 3: a second line for a"),
        (f'netspec-data 1\n{"0" * 64}  1  "a\n', "line 2: the name is no JSON string"),
        (b"netspec-data 1\n\xff\n", "byte 15: not UTF-8"),
    ],
)
def test_faults_of_the_manifest(photos: Path, text: str | bytes, message: str) -> None:
    place = photos.parent / "photos.lock"
    place.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError) as caught:
        opened(photos.parent, "photos")
    assert str(caught.value).startswith(f"{place}: {message}")


def test_nothing_to_lock(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="mnist: comes with the package"):
        manifest_for(section("mnist"), tmp_path)
    with pytest.raises(DataError, match="none: no such file or folder"):
        manifest_for(section("none"), tmp_path)
