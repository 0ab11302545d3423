"""`netspec init`: what it writes checks at once, trains when data is given, and spares files."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from netspec import zoo

Netspec = Callable[..., Any]


@pytest.mark.parametrize("origin", zoo.names())
def test_checks_at_once_and_is_formatted(netspec: Netspec, tmp_path: Path, origin: str) -> None:
    assert netspec("init", "mine", "--from", origin, "-o", tmp_path).code == 0
    file = tmp_path / "mine.net"
    checked = netspec("check", file, "--json")
    assert checked.code == 0, checked.out
    assert checked.json["name"] == "mine"
    original = netspec("check", origin, "--json").json["totals"]
    assert checked.json["totals"]["parameters"] == original["parameters"]
    assert netspec("fmt", "--check", file).code == 0
    assert file.read_text().splitlines()[0].startswith("#")


def test_trains_if_data_is_given(
    netspec: Netspec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert netspec("init", "small").code == 0
    trained = netspec("train", "small.net", "--set", "solver.max_iter=3", "--device", "cpu")
    assert trained.code == 0, trained.err


def test_brings_data_and_solver_where_there_are_none(netspec: Netspec, tmp_path: Path) -> None:
    netspec("init", "mine", "--from", "resnet18", "-o", tmp_path)
    text = (tmp_path / "mine.net").read_text()
    assert 'data "train" { source: "data"' in text
    assert "solver {" in text
    said = netspec("train", tmp_path / "mine.net", "--runs", tmp_path / "runs")
    assert said.code == 1
    assert "no such file or folder; a source is" in said.err


def test_keeps_what_is_there(netspec: Netspec, tmp_path: Path) -> None:
    file = tmp_path / "mine.net"
    file.write_text("mine")
    refused = netspec("init", "mine", "-o", tmp_path)
    assert refused.code == 2
    assert "is there already, and stays as it is" in refused.err
    assert file.read_text() == "mine"


@pytest.mark.parametrize("name", ["", " ", "a/b", "..", 'a"b', "a\nb", ".net", "a" * 129])
def test_refuses_names_that_are_none(netspec: Netspec, tmp_path: Path, name: str) -> None:
    assert netspec("init", name, "-o", tmp_path).code == 2
    assert not list(tmp_path.iterdir())


def test_suggests_a_spec(netspec: Netspec, tmp_path: Path) -> None:
    refused = netspec("init", "mine", "--from", "resnet81", "-o", tmp_path)
    assert refused.code == 2
    assert "did you mean `resnet18`?" in refused.err


def test_a_folder_that_is_not_there(netspec: Netspec, tmp_path: Path) -> None:
    refused = netspec("init", "mine", "-o", tmp_path / "none")
    assert refused.code == 1
    assert "cannot be written" in refused.err


def pictures(folder: Path, *sizes: tuple[int, int], splits: tuple[str, ...] = ("",)) -> Path:
    """Six pictures of each of two classes, of these sizes by turns."""
    chance = np.random.default_rng(0)
    for split in splits:
        for label in ("cat", "dog"):
            place = folder / "pictures" / split / label
            place.mkdir(parents=True)
            for i in range(6):
                pixels = chance.integers(0, 256, (*sizes[i % len(sizes)], 3), np.uint8)
                Image.fromarray(pixels).save(place / f"{i}.png")
    return folder / "pictures"


@pytest.mark.parametrize(
    ("sizes", "splits", "said"),
    [
        ([(16, 16)], ("",), ["val: 0.2", "input \"data\" { shape: 3x16x16 }"]),
        ([(90, 70), (100, 80)], ("",), ["new_height: 64  new_width: 64", "shape: 3x64x64"]),
        ([(24, 20)], ("train", "test"), ["new_height: 20  new_width: 20", 'data "test" {']),
    ],
)  # fmt: skip
def test_a_spec_for_pictures_trains_as_it_is(
    netspec: Netspec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    sizes: list[tuple[int, int]], splits: tuple[str, ...], said: list[str],
) -> None:  # fmt: skip
    pictures(tmp_path, *sizes, splits=splits)
    monkeypatch.chdir(tmp_path)
    begun = netspec("init", "pets", "--data", "pictures")
    assert begun.code == 0, begun.err
    text = (tmp_path / "pets.net").read_text()
    assert all(part in text for part in said), text
    assert ('data "test"' in text) == (len(splits) == 2)
    assert netspec("fmt", "--check", "pets.net").code == 0
    trained = netspec("train", "pets.net", "--set", "solver.max_iter=2", "--device", "cpu")
    assert trained.code == 0, trained.err
    shown = netspec("predict", "runs/pets/1", next(Path("pictures").rglob("*.png")), "--json")
    assert {c["name"] for c in shown.json["predictions"][0]["classes"]} == {"cat", "dog"}
    # Verbs that have no pictures at hand take them for what they are: bytes.
    counted = netspec("check", "pets.net")
    assert counted.code == 0, counted.err
    assert "estimated" not in counted.out
    timed = netspec("time", "pets.net", "--iterations", "1", "--device", "cpu")
    assert timed.code == 0, timed.err
    assert netspec("compile", "pets.net", "--training", "-o", "step.onnx").code == 0


def test_a_spec_for_pictures_in_a_zip(netspec: Netspec, tmp_path: Path) -> None:
    folder = pictures(tmp_path, (16, 16))
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, file.relative_to(folder))
    out = tmp_path / "specs"
    out.mkdir()
    assert netspec("init", "pets", "--data", tmp_path / "pictures.zip", "-o", out).code == 0
    assert netspec("check", out / "pets.net").code == 0


def test_pictures_need_classes(netspec: Netspec, tmp_path: Path) -> None:
    folder = pictures(tmp_path, (16, 16))
    for file in (folder / "dog").iterdir():
        file.unlink()
    (folder / "dog").rmdir()
    refused = netspec("init", "pets", "--data", folder, "-o", tmp_path)
    assert refused.code == 2
    assert "a folder for each of two classes" in refused.err
    assert netspec("init", "pets", "--data", tmp_path / "nothing").code == 1
    assert netspec("init", "pets", "--data", folder, "--from", "lenet").code == 2
    assert not list(tmp_path.glob("*.net"))
