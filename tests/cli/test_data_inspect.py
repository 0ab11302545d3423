"""`netspec data inspect`: numbers that numpy gives, and everything odd that was put there."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from .conftest import Netspec

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, 6, 5, 3)).astype(np.uint8)


def save(path: Path, pixels: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing odd: two classes of four images, and of two in the test."""
    for row, image in enumerate(IMAGES):
        split, name = ("train", row) if row < 8 else ("test", row - 8)
        save(tmp_path / "photos" / split / "ab"[name % 2] / f"{name}.png", image)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def test_numbers(netspec: Netspec, photos: Path) -> None:
    said = netspec("data", "inspect", "photos", "--json").json
    assert said["warnings"] == []
    for split, images in (("train", IMAGES[:8]), ("test", IMAGES[8:])):
        facts = said["splits"][split]
        assert facts["samples"] == len(images)
        (array,) = facts["arrays"]
        assert (array["name"], array["channels"]) == ("data", 3)
        flat = images.reshape(-1, 3).astype(np.float64)
        for key, expected in (
            ("mean", flat.mean(0)), ("std", flat.std(0)), ("min", flat.min(0)), ("max", flat.max(0))
        ):  # fmt: skip
            np.testing.assert_allclose(array[key], expected, rtol=1e-12)
        half = len(images) // 2
        assert [(c["name"], c["samples"]) for c in facts["labels"]] == [("a", half), ("b", half)]


def test_in_words(netspec: Netspec, photos: Path) -> None:
    said = netspec("data", "inspect", "photos")
    assert said.code == 0
    assert "train: 8 samples of photos\nimages: all 3x6x5\n" in said.out
    assert "\na            4  50.0%  " + 30 * "#" in said.out
    assert "warning" not in said.out
    assert netspec("data", "inspect", "photos", "--strict").code == 0


def odd(netspec: Netspec, *words: str) -> list[str]:
    said = netspec("data", "inspect", *words, "--json")
    assert said.code == 0
    assert netspec("data", "inspect", *words, "--strict").code == int(bool(said.json["warnings"]))
    warnings: list[str] = said.json["warnings"]
    return warnings


def test_what_is_held_out_is_no_test_of_its_own(netspec: Netspec, photos: Path) -> None:
    spec = photos.parent / "held.net"
    spec.write_text(
        'data "train" { source: "photos/train"  batch_size: 4  val: 0.25 }\n'
        'input "data" { shape: 3x6x5 }\nfc { num_output: 2 }\nsoftmax_loss\n'
    )
    said = netspec("data", "inspect", spec, "--strict", "--json")
    assert (said.code, list(said.json["splits"])) == (0, ["train"])


def test_sizes(netspec: Netspec, photos: Path) -> None:
    save(photos / "train/a/large.png", RNG.integers(0, 256, (30, 30, 3)).astype(np.uint8))
    assert odd(netspec, "photos") == ["train: images of 2 shapes, and training takes them of one"]
    sizes = netspec("data", "inspect", "photos", "--json").json["splits"]["train"]["sizes"]
    assert sizes == {"smallest": "3x6x5", "largest": "3x30x30", "most common": "3x6x5 (8)"}


def test_copies(netspec: Netspec, photos: Path) -> None:
    """Of the pixels: another file of the same image is found."""
    Image.fromarray(IMAGES[0]).save(photos / "train/a/again.png", compress_level=1)
    save(photos / "train/b/other.png", IMAGES[0])
    save(photos / "test/a/leak.png", IMAGES[5])
    assert odd(netspec, "photos") == [
        "train: 2 copies of other samples: photos/train/a/0.png = photos/train/a/again.png",
        "train: 1 sample under several labels: photos/train/a/0.png = photos/train/a/again.png",
        "1 of the 5 test samples are in the training data: "
        "photos/test/a/leak.png = photos/train/b/5.png",
    ]


def test_a_sheet_is_called_what_it_is(netspec: Netspec, photos: Path) -> None:
    said = netspec("data", "inspect", "photos", "--sheet", "sheet.jpg")
    assert (said.code, said.err) == (2, "sheet.jpg: a sheet is written as .png\n")
    assert not Path("sheet.jpg").exists()


def test_unreadable(netspec: Netspec, photos: Path) -> None:
    """The first and six more, of which five are named."""
    for name in ("0", *(f"x{i}" for i in range(6))):
        (photos / f"train/a/{name}.png").write_bytes(b"no image")
    (warning,) = odd(netspec, "photos")
    assert warning.startswith("train: 7 samples cannot be read: photos/train/a/0.png: neither PNG")
    assert warning.endswith("; and 2 more")


def test_labels(netspec: Netspec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = RNG.standard_normal((30, 4)).astype(np.float32)
    label = np.array([0] * 27 + [3, 3, -1])
    np.savez(tmp_path / "set.npz", data=data, label=label)
    assert odd(netspec, "set.npz") == [
        "all: no samples of 2 classes: 1, 2",
        "all: 1 label below 0",
        "all: the largest class has 27 samples, the smallest 1",
    ]
    said = netspec("data", "inspect", "set.npz", "--json").json
    (facts,) = said["splits"].values()
    assert {c["label"]: c["samples"] for c in facts["labels"]} == {-1: 1, 0: 27, 1: 0, 2: 0, 3: 2}
    assert facts["arrays"][0]["mean"] == pytest.approx([data.mean()], rel=1e-6)


def test_a_constant_channel(
    netspec: Netspec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = RNG.integers(0, 256, (4, 3, 5, 5)).astype(np.uint8)
    data[:, 1] = 7
    np.savez(tmp_path / "set.npz", data=data)
    assert odd(netspec, "set.npz") == ["all: all values of `data` are the same in channel 1"]


def test_what_is_no_number_is_refused_with_its_row(
    netspec: Netspec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = np.zeros((4, 3), np.float32)
    data[2, 1] = np.nan
    np.savez(tmp_path / "set.npz", data=data)
    said = netspec("data", "inspect", "set.npz")
    assert said.code == 1
    assert said.err == "set.npz: `data`: row 2: nan is not a finite number\n"


def test_a_spec(netspec: Netspec, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "net.net").write_text(
        'data "train" { source: "photos/train"  batch_size: 1 }\n'
        'data "test" { source: "photos/train"  batch_size: 1 }\n'
        'input "data" { shape: 3x6x5 }  fc { num_output: 2 }  softmax_loss\n'
    )
    (warning,) = odd(netspec, "net.net")
    assert warning.startswith("8 of the 8 test samples are in the training data: ")
    assert warning.endswith("; and 3 more")


def test_the_digits_that_come_with_the_package(netspec: Netspec) -> None:
    said = netspec("data", "inspect", "mnist", "--json").json
    assert said["splits"]["train"]["samples"] == 10_000
    assert said["splits"]["train"]["arrays"][0]["mean"][0] / 255 == pytest.approx(0.1307, abs=1e-3)


def test_faults(netspec: Netspec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = netspec("data", "inspect", "nothing")
    assert said.code == 1
    assert said.err.startswith("nothing: no such file or folder")
    np.savez(tmp_path / "set.npz", data=np.zeros((4, 3), np.uint8))
    said = netspec("data", "inspect", "set.npz", "--sheet", "x.png")
    assert (said.code, said.err) == (2, "set.npz: the samples are no images to be drawn\n")


class TestSheet:
    def test_a_row_for_each_class(self, netspec: Netspec, photos: Path) -> None:
        """Where an image of one colour must be, that colour is."""
        for name, colour in (("a", (200, 0, 0)), ("b", (0, 0, 200))):
            for file in (photos / "train" / name).iterdir():
                save(file, np.full((6, 6, 3), colour, np.uint8))
        (photos / "train/b/1.png").write_bytes(b"no image")
        said = netspec("data", "inspect", "photos", "--sheet", "sheet.png", "--per-class", "3")
        assert said.out.endswith("sheet.png: 3 samples of each class at most\n")
        sheet = np.asarray(Image.open(photos.parent / "sheet.png"))
        from netspec.report.contact_sheet import GAP, NAMES, SIDE

        for line, colour in enumerate([(200, 0, 0), (0, 0, 200)]):
            for column in range(3):
                y = GAP + line * (SIDE + GAP) + SIDE // 3
                x = GAP + NAMES + column * (SIDE + GAP) + SIDE // 2
                unreadable = (line, column) == (1, 0)
                assert (tuple(sheet[y, x]) == colour) != unreadable

    def test_blue_first(
        self, netspec: Netspec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A list is decoded as BGR, and shown as it is."""
        monkeypatch.chdir(tmp_path)
        save(tmp_path / "x.png", np.full((6, 6, 3), (250, 10, 20), np.uint8))
        (tmp_path / "list.txt").write_text("x.png 0\n")
        netspec("data", "inspect", "list.txt", "--sheet", "sheet.png")
        sheet = np.asarray(Image.open(tmp_path / "sheet.png")).reshape(-1, 3)
        assert (sheet == (250, 10, 20)).all(1).any()
        assert not (sheet == (20, 10, 250)).all(1).any()

    def test_numbers_and_long_names(self) -> None:
        from netspec.report.contact_sheet import contact_sheet

        values = RNG.standard_normal((1, 100, 40)).astype(np.float32)
        values[0, 0, 0] = np.nan
        still = np.zeros((2, 3, 3), np.float32)
        made = contact_sheet([("ü" * 90, "1", [lambda: values, lambda: still]), ("", "", [])])
        assert Image.open(io.BytesIO(made)).size[0] > 300
