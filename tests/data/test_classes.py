"""The names of the classes: from the source, from the section, and where the two disagree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netspec.compiler import elaborate, read
from netspec.data import Dataset, open_dataset
from netspec.data.classes import same_classes
from netspec.diagnostics import DataError
from netspec.ir.sections import DataSection

RNG = np.random.default_rng(0)


def opened(folder: Path, source: str, **fields: Any) -> Dataset:
    section = DataSection(source=source, batch_size=1, **fields)
    return open_dataset(source, split="train", base=folder, section=section)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    np.savez(tmp_path / "a.npz", data=np.zeros((3, 2)), label=np.arange(3))
    return tmp_path


def test_of_the_section(archive: Path) -> None:
    assert opened(archive, "a.npz").classes == ()
    assert opened(archive, "a.npz", classes=("x", "y", "z")).classes == ("x", "y", "z")


def test_of_a_file(archive: Path) -> None:
    (archive / "names.txt").write_text("n01440764 tench, Tinca tinca\r\n\nä\n")
    found = opened(archive, "a.npz", class_names="names.txt").classes
    assert found == ("n01440764 tench, Tinca tinca", "ä")


def test_other_words_for_what_a_folder_has(image_folder: Callable[..., Path]) -> None:
    image = RNG.integers(0, 256, (2, 2, 3)).astype(np.uint8)
    folder = image_folder(a__1_png=image, b__1_png=image)
    assert opened(folder, ".").classes == ("a", "b")
    assert opened(folder, ".", classes=("ant", "bee")).classes == ("ant", "bee")
    with pytest.raises(DataError, match="label 0 is `a`, and `b` by the section's `classes`"):
        opened(folder, ".", classes=("b", "a"))
    with pytest.raises(DataError, match="has 2 classes, `classes` names 3"):
        opened(folder, ".", classes=("x", "y", "z"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\nb\na\n", "names.txt: `a` is named twice"),
        (b"\n \n", "names.txt: names no class"),
        (b"a\n\xff\n", "names.txt: line 2: not UTF-8"),
        (None, "names.txt: cannot be read: No such file"),
    ],
)
def test_files_that_name_nothing(archive: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (archive / "names.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        opened(archive, "a.npz", class_names="names.txt")


def test_a_label_has_one_meaning() -> None:
    dataset = Dataset({"data": np.zeros((1, 1))}, ("a", "c"), "made")
    for trained in ((), ("a", "c")):
        same_classes(dataset, trained)
    with pytest.raises(DataError, match="made: label 1 is `c`, and `b` in the training data"):
        same_classes(dataset, ("a", "b", "c"))
    with pytest.raises(DataError, match="label 2 is no class, and `d` in the training data"):
        same_classes(dataset, ("a", "c", "d"))


def test_training_names_the_classes_of_both(tmp_path: Path) -> None:
    path = tmp_path / "a.net"
    sections = 'data "train" { batch_size: 1  classes: [a, b] }  data "test" { batch_size: 1 }'
    path.write_text(sections + ' input "data" { shape: 2 } fc { num_output: 2 } softmax_loss')
    nets = elaborate(read(str(path)))
    assert nets.test.net.data is not None
    assert nets.test.net.data.classes == ("a", "b")
