"""`netspec data preview`: the sheet, what is on it, and what is refused."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from netspec.cli import main
from netspec.compiler import read
from netspec.report.sheet import GAP, NAME, sheet
from netspec.training.setup.experiment import prepare
from netspec.training.trials.previewing import preview

RNG = np.random.default_rng(0)


def written(folder: Path, transform: str, images: Any, *, shape: str | None = None) -> Path:
    np.savez(folder / "set.npz", data=images, label=np.arange(len(images)) % 3)
    path = folder / "net.net"
    extent = shape or "x".join(map(str, images.shape[1:]))
    path.write_text(
        f'data "train" {{ source: "set.npz"  batch_size: 2  transform {{ {transform} }} }}\n'
        f'input "data" {{ shape: {extent} }}\nfc {{ num_output: 3 }}  softmax_loss\n'
    )
    return path


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_without_augmentation_it_shows_what_is_stored(
    tmp_path: Path, channels: int, kind: str
) -> None:
    """The mean and the scale are taken back."""
    images = RNG.integers(0, 256, (5, channels, 6, 9)).astype(kind)
    path = written(tmp_path, "mean_value: 100  scale: 1/64  std: 2", images)
    rows = preview(read(str(path)), samples=4, draws=2)
    for row in rows:
        assert row.stored.shape == ((6, 9, 3) if channels == 3 else (6, 9))
        for drawn in row.drawn:
            np.testing.assert_array_equal(drawn, row.stored)


def test_colours_are_shown_as_they_are_ordered(tmp_path: Path) -> None:
    images = np.zeros((3, 3, 4, 4), np.uint8)
    images[:, 0] = 255
    red = preview(read(str(written(tmp_path, "scale: 2", images))), samples=1, draws=1)
    assert red[0].drawn[0][0, 0].tolist() == [255, 0, 0]
    path = written(tmp_path, "channel_order: BGR", images)
    blue = preview(read(str(path)), samples=1, draws=1)
    assert blue[0].drawn[0][0, 0].tolist() == blue[0].stored[0, 0].tolist() == [0, 0, 255]


def test_draws_are_those_of_the_seed(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (9, 3, 8, 8)).astype(np.uint8)
    spec = read(str(written(tmp_path, "rotation: 90  crop_size: 6", images, shape="3x6x6")))
    one, same, other = (preview(spec, samples=3, draws=2, seed=seed) for seed in (1, 1, 2))
    for a, b in zip(one, same, strict=True):
        np.testing.assert_array_equal(a.drawn, b.drawn)
        assert a.drawn[0].shape == (6, 6, 3)
        assert (a.drawn[0] != a.drawn[1]).any()
    assert any((a.stored != b.stored).any() for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("seed", [1, 5])
@pytest.mark.parametrize(
    "fields",
    ["val: 0.4", "shuffle: false  rand_skip: 25", "val: 0.4  shuffle: false  rand_skip: 9"],
)
def test_it_shows_what_a_training_takes(tmp_path: Path, fields: str, seed: int) -> None:
    """None that is held out, from the sample on at which the training begins."""
    images = np.arange(30, dtype=np.uint8).repeat(16).reshape(30, 1, 4, 4)
    path = written(tmp_path, "standardize: true", images)
    solver = f"solver {{ base_lr: 0.1  max_iter: 1  random_seed: {seed} }}"
    path.write_text(path.read_text().replace("batch_size: 2", f"batch_size: 6  {fields}") + solver)
    training = prepare(read(str(path)))
    taken = training.train.arrays["data"][training.batches.indices(0), 0, 0, 0]
    assert taken.tolist() != list(range(6))
    for given in ({}, {"seed": seed}):
        spec = read(str(path), sets=["solver.random_seed=9"] if given else [])
        rows = preview(spec, samples=6, draws=1, seed=given.get("seed"))
        assert [row.stored[0, 0] for row in rows] == taken.tolist()
        for row in rows:  # measured on what is trained on, and taken back
            np.testing.assert_array_equal(row.drawn[0], row.stored)


def test_the_verb_writes_a_sheet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "preset: PLANKTON", RNG.integers(0, 256, (3, 1, 28, 28)).astype(np.uint8))
    assert main(["data", "preview", "net.net", "--samples", "5", "--draws", "3"]) == 0
    assert capsys.readouterr().out == "sheet.png: 3 images, 3 draws of each\n"
    with Image.open("sheet.png") as made:
        assert made.format == "PNG"
        assert made.height == NAME + GAP + 3 * (112 + NAME + GAP)


def test_what_cannot_be_shown_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = RNG.random((4, 7)).astype(np.float32)
    path = written(tmp_path, "scale: 2", numbers, shape="7")
    assert main(["data", "preview", str(path)]) == 2
    assert "a preview is of images, and `data` is 7" in capsys.readouterr().err
    path = written(tmp_path, "scale: 0", np.zeros((4, 1, 4, 4), np.uint8))
    assert main(["data", "preview", str(path)]) == 2
    assert "a scale of 0 leaves nothing to be shown" in capsys.readouterr().err
    path = written(tmp_path, "", np.zeros((4, 1, 4, 4), np.uint8))
    assert main(["data", "preview", str(path), "-o", str(tmp_path / "none" / "s.png")]) == 1
    assert "cannot be written" in capsys.readouterr().err
    path.write_text('input "data" { shape: 3x4x4 }  fc { num_output: 2 }  softmax_loss\n')
    assert main(["data", "preview", str(path)]) == 2
    assert 'there is no `data "train" { … }`' in capsys.readouterr().err


def test_small_images_are_magnified_and_large_ones_shrink() -> None:
    small, large = np.zeros((4, 6, 3), np.uint8), np.zeros((500, 1000), np.uint8)
    for image, side in ((small, 96), (large, 320)):
        file = BytesIO(sheet(["stored"], [("a", [image])]))
        with Image.open(file) as made:
            assert made.width >= side


def test_a_mean_image_counts_as_its_channels_averages(tmp_path: Path) -> None:
    images = np.full((3, 3, 4, 4), 100, np.uint8)
    np.save(tmp_path / "mean.npy", np.full((3, 4, 4), 30, np.float32))
    path = written(tmp_path, 'mean_file: "mean.npy"  scale: 1/2  mirror: true', images)
    (row,) = preview(read(str(path)), samples=1, draws=1)
    np.testing.assert_array_equal(row.drawn[0], row.stored)
