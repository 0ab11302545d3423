"""A run does not go on with other samples than it began with, and tells what is odd of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import Ear
from PIL import Image

from netspec.compiler import read
from netspec.diagnostics import DataError
from netspec.training.launch import train
from netspec.training.outcome import Outcome
from netspec.training.runs.run import Run
from netspec.training.testing.candidate import Candidate

NET = """
data "train" { source: "SOURCE"  batch_size: 4 }
input "data" { shape: 3x4x4 }
fc { num_output: 3 }
softmax_loss
solver { base_lr: 0.1  max_epoch: 2 }
"""


def spec(folder: Path, source: str) -> Path:
    path = folder / "net.net"
    path.write_text(NET.replace("SOURCE", source))
    return path


def archive(path: Path, samples: int = 12, first: int = 0) -> None:
    data = np.random.default_rng(0).integers(0, 256, (samples, 3, 4, 4), np.uint8)
    np.savez(path, data=data, label=(np.arange(samples) + first) % 3)


def pictures(folder: Path) -> Path:
    for name in ("a/0.png", "a/1.png", "b/0.png", "b/1.png", "c/0.png", "c/1.png"):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (9, 9, 9)).save(file)
    return folder


def go(spec: Path, **more: Any) -> Outcome:
    return train(read(str(spec)), runs=spec.parent / "runs", device="cpu", **more)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"samples": 9}, "it began with 12 samples, and there are 9 now"),
        ({"first": 1}, "it began with 12 samples, and they have other labels or names"),
    ],
)
def test_other_labels_are_refused(change: dict[str, int], said: str, tmp_path: Path) -> None:
    path = spec(tmp_path, "train.npz")
    archive(tmp_path / "train.npz")
    go(path)
    archive(tmp_path / "train.npz", **change)
    with pytest.raises(DataError, match=f"its training data have changed: {said}") as refused:
        go(path, resume=True)
    assert str(refused.value).endswith("; --force goes on with them")
    ear = Ear()
    ran = go(path, resume=True, force=True, epochs="+1", listener=ear).ran
    (warning,) = ear.of("warned")
    assert f"{warning}; --force goes on with them" == str(refused.value)
    assert ran > 0
    assert go(path, resume=True, listener=ear).ran == 0  # it remembers what it went on with
    assert ear.of("warned") == [warning]


def test_other_tests_are_told(tmp_path: Path) -> None:
    """They change no weight, but scores compare with earlier ones no longer."""
    path = spec(tmp_path, "train.npz")
    path.write_text(f'data "test" {{ source: "test.npz"  batch_size: 4 }}\n{path.read_text()}')
    archive(tmp_path / "train.npz")
    archive(tmp_path / "test.npz", samples=6, first=1)
    go(path)
    archive(tmp_path / "test.npz", samples=7, first=1)
    ear = Ear()
    assert go(path, resume=True, epochs="+1", listener=ear).ran == 3
    (warning,) = ear.of("warned")
    assert "its test data have changed: it was tested on 6 samples, and there are 7 now" in warning
    assert go(path, resume=True, epochs="+1", listener=ear).ran == 3
    assert ear.of("warned") == [warning]  # it remembers


def test_pictures_may_be_moved_and_not_renamed(tmp_path: Path) -> None:
    path = spec(tmp_path, "pictures")
    pictures(tmp_path / "pictures")
    go(path)
    elsewhere = (tmp_path / "pictures").rename(tmp_path / "elsewhere")
    assert go(path, resume=True, data=elsewhere, epochs="+1").ran == 2
    (elsewhere / "a" / "0.png").rename(elsewhere / "a" / "9.png")
    with pytest.raises(DataError, match="they have other labels or names"):
        go(path, resume=True, data=elsewhere)


def test_a_run_that_is_forced_to_go_on_learns_new_names_of_classes(tmp_path: Path) -> None:
    """Else it would be tested on none but the old ones."""
    path = spec(tmp_path, "pictures")
    pictures(tmp_path / "pictures")
    assert Run.open(go(path).run).settings.classes == ("a", "b", "c")
    (tmp_path / "pictures" / "c").rename(tmp_path / "pictures" / "d")
    run = Run.open(go(path, resume=True, force=True, epochs="+1").run)
    assert run.settings.classes == ("a", "b", "d")
    assert Candidate.of_run(run, split="train").dataset.classes == ("a", "b", "d")


def test_a_run_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    path = spec(tmp_path, "train.npz")
    archive(tmp_path / "train.npz")
    settings = go(path).run / "settings.json"
    kept = [line for line in settings.read_text().splitlines() if '"samples"' not in line]
    settings.write_text("\n".join(kept))
    archive(tmp_path / "train.npz", first=1)
    assert go(path, resume=True, epochs="+1").ran == 3


def test_tests_on_what_is_learned_are_told(tmp_path: Path) -> None:
    path, ear = spec(tmp_path, "train.npz"), Ear()
    path.write_text(f'data "test" {{ source: "train.npz"  batch_size: 4 }}\n{path.read_text()}')
    archive(tmp_path / "train.npz")
    go(path, listener=ear)
    (said,) = ear.of("warned")
    assert "train.npz: the tests look at the 12 samples that are learned" in said
    assert said.endswith("`val: 0.1` holds some out")


def test_a_batch_of_more_than_there_are_is_told(tmp_path: Path) -> None:
    path, ear = spec(tmp_path, "train.npz"), Ear()
    archive(tmp_path / "train.npz")
    go(path, batch=12, listener=ear)
    assert not ear.of("warned")
    go(path, batch=30, listener=ear)
    assert ear.of("warned") == [
        "a batch of 30 takes 12 samples 2.5 times over: a batch_size of 12 would see as much, and "
        "update more often"
    ]


def test_data_that_moved_are_asked_for(tmp_path: Path) -> None:
    path = spec(tmp_path, "train.npz")
    archive(tmp_path / "train.npz")
    go(path)
    (tmp_path / "train.npz").rename(tmp_path / "moved.npz")
    with pytest.raises(DataError, match=r"train.npz: no such file or folder; --data says"):
        go(path, resume=True, epochs="+1")
    assert go(path, resume=True, epochs="+1", data=tmp_path / "moved.npz").ran == 3
    assert go(path, resume=True, epochs="+1").ran == 3  # the run remembers where they are now


@pytest.mark.parametrize("apart", ["val", "folder"])
def test_tests_on_others_are_not(apart: str, tmp_path: Path) -> None:
    path, ear = spec(tmp_path, "pictures"), Ear()
    text = path.read_text()
    if apart == "val":
        pictures(tmp_path / "pictures")
        text = text.replace("batch_size: 4", "batch_size: 4  val: 0.34", 1)
    else:
        pictures(tmp_path / "pictures" / "train")
        pictures(tmp_path / "pictures" / "test")
    path.write_text(f'{text}\ndata "test" {{ source: "pictures"  batch_size: 4 }}')
    go(path, listener=ear)
    assert ear.of("warned") == []
