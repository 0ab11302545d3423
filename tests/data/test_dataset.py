"""Which reader a source gets, the bundled digits, and whether a data set suits a net."""

from __future__ import annotations

import gzip
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netspec.data import READERS, Dataset, check_dataset, open_dataset
from netspec.data.formats import mnist as bundled
from netspec.diagnostics import DataError
from netspec.ir.types import TensorType

BUNDLED = Path(bundled.__file__).parents[1] / "bundled"
FULL = Path(__file__).parents[3] / "shared" / "data" / "mnist"

DATA = TensorType((None, 3, 4, 4))  # type: ignore[arg-type]
LABEL = TensorType((8,), "int64")


def dataset(label: Any = (0, 1, 2), classes: tuple[str, ...] = (), **more: Any) -> Dataset:
    arrays = {"data": np.zeros((3, 3, 4, 4), np.uint8), "label": np.array(label), **more}
    return Dataset(arrays, classes, "set.npz")


class TestSources:
    def test_bundled_digits(self, tmp_path: Path) -> None:
        """The labels and the mean are those that every MNIST has at these places."""
        train = open_dataset("mnist", split="train", base=tmp_path)
        test = open_dataset("mnist", split="test", base=tmp_path)
        assert (len(train), len(test)) == (10_000, 2_000)
        assert train.arrays["data"].shape == (10_000, 1, 28, 28)
        assert train.arrays["label"][:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
        assert test.arrays["label"][:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
        assert train.arrays["data"].mean() / 255 == pytest.approx(0.1307, abs=0.001)
        assert train.classes == tuple("0123456789")
        assert train.origin == "bundled MNIST digits"
        check_dataset(train, {"data": TensorType((64, 1, 28, 28)), "label": LABEL}, 10)

    def test_bundled_files_are_small_and_licensed(self) -> None:
        assert all(path.stat().st_size < 2 << 20 for path in BUNDLED.iterdir())
        licence = (BUNDLED / "LICENSE").read_text()
        assert all(word in licence for word in ("CC BY-SA 3.0", "LeCun", "Cortes", "Burges"))

    @pytest.mark.skipif(not FULL.is_dir(), reason="needs the full MNIST")
    def test_bundled_files_are_what_their_script_makes(self) -> None:
        script = runpy.run_path(str(Path(__file__).with_name("bundle.py")))
        for name, count in script["FILES"].items():
            packed = (BUNDLED / name).read_bytes()
            assert gzip.decompress(packed) == script["excerpt"](FULL / name, count)
            assert packed[4:8] == bytes(4), "no time of writing"

    @pytest.mark.skipif(not FULL.is_dir(), reason="needs the full MNIST")
    def test_full_mnist(self) -> None:
        train = open_dataset("mnist", split="train", base=FULL.parent)
        assert len(train) == 60_000
        assert train.arrays["data"].mean() / 255 == pytest.approx(0.1307, abs=5e-5)
        assert train.origin == str(FULL)

    def test_a_path_named_mnist_comes_first(self, tmp_path: Path) -> None:
        (tmp_path / "mnist").mkdir()
        with pytest.raises(DataError, match="no folders in it"):
            open_dataset("mnist", split="train", base=tmp_path)

    def test_an_absolute_source(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "x.npz", data=np.zeros((2, 3)))
        assert len(open_dataset(str(tmp_path / "x.npz"), split="test", base=Path("/nowhere"))) == 2

    @pytest.mark.parametrize(
        "source", ["digits", "a/../digits", "x" * 5000, "a\0b", "a\0b/c", "", "~/none"]
    )
    def test_what_is_not_there(self, tmp_path: Path, source: str) -> None:
        with pytest.raises(DataError, match=r"no (such file|folders)") as caught:
            open_dataset(source, split="train", base=tmp_path)
        if source:
            assert all(reader.form in str(caught.value) for reader in READERS)
            assert "`mnist` for the bundled digits" in str(caught.value)

    def test_a_name_like_one_that_is_there(self, tmp_path: Path) -> None:
        (tmp_path / "digits.npz").write_bytes(b"")
        with pytest.raises(DataError) as caught:
            open_dataset("digit.npz", split="train", base=tmp_path)
        said = "digit.npz: no such file or folder; did you mean `digits.npz`?"
        assert str(caught.value).endswith(said)

    def test_what_is_of_no_format(self, tmp_path: Path) -> None:
        (tmp_path / "x.xyz").write_text("1,2\n")
        with pytest.raises(DataError, match=r"x\.xyz: of no known format; a source is an \.npz"):
            open_dataset("x.xyz", split="train", base=tmp_path)

    def test_a_name_cannot_drive_the_terminal(self, tmp_path: Path) -> None:
        with pytest.raises(DataError) as caught:
            open_dataset("\x1b[2Jx", split="train", base=tmp_path)
        assert "\x1b" not in str(caught.value)


class TestCheck:
    def test_what_suits(self) -> None:
        check_dataset(dataset(), {"data": DATA, "label": LABEL}, 3)
        check_dataset(dataset(), {"data": DATA}, 3)
        check_dataset(dataset(classes=("a", "b", "c")), {"data": DATA, "label": LABEL}, 3)
        check_dataset(dataset(label=(0, 255, 2)), {"label": LABEL}, 3, ignore_label=255)
        check_dataset(dataset(label=(0.5, 1, 2)), {"label": TensorType((8,))}, None)
        check_dataset(dataset(label=(0.5, 1, 2)), {"label": TensorType((8,))}, 3)

    def test_a_missing_array(self) -> None:
        message = r"set.npz: no array `box` for the input of that name; it holds data, label"
        with pytest.raises(DataError, match=message):
            check_dataset(dataset(), {"box": TensorType((8, 4))})

    def test_another_shape(self) -> None:
        with pytest.raises(DataError, match="a row of `data` is 3x4x4, the input takes 1x28x28"):
            check_dataset(dataset(), {"data": TensorType((8, 1, 28, 28))})
        with pytest.raises(DataError, match="a row of `label` is 1, the input takes a scalar"):
            check_dataset(dataset(label=((0,), (1,), (2,))), {"label": LABEL})
        with pytest.raises(DataError, match="a row of `label` is a scalar, the input takes 4"):
            check_dataset(dataset(), {"label": TensorType((8, 4), "int64")})

    def test_all_faults_are_told(self) -> None:
        with pytest.raises(DataError) as caught:
            check_dataset(dataset(), {"data": TensorType((8, 9)), "box": DATA, "label": LABEL}, 2)
        assert len(str(caught.value).splitlines()) == 2

    def test_float_labels(self) -> None:
        with pytest.raises(DataError, match="`label` is float64; class labels are integers"):
            check_dataset(dataset(label=(0.0, 1.0, 2.0)), {"label": LABEL}, 3)

    @pytest.mark.parametrize("stray", [3, -1, 255])
    def test_a_label_out_of_range(self, stray: int) -> None:
        message = (
            rf"set.npz: row 1: label {stray} is outside \[0, 3\), the 3 outputs of layer `ip2`$"
        )
        with pytest.raises(DataError, match=message):
            check_dataset(dataset(label=(0, stray, 2)), {"label": LABEL}, 3, layer="ip2")

    def test_labels_of_many_values(self) -> None:
        labels = np.zeros((3, 1, 4, 4), np.int64)
        labels[2, 0, 1, 1:3] = 9
        message = r"row 2: label 9 is outside \[0, 3\), the 3 outputs of the net \(2 such labels\)"
        with pytest.raises(DataError, match=message):
            check_dataset(dataset(label=labels), {"label": TensorType((8, 1, 4, 4), "int64")}, 3)

    def test_another_count_of_classes(self) -> None:
        with pytest.raises(
            DataError, match="3 classes do not match the 1000 outputs of layer `fc`"
        ):
            check_dataset(dataset(classes=("a", "b", "c")), {"label": LABEL}, 1000, layer="fc")


@pytest.mark.parametrize("options", ["--count 3000", "--count 50 --locked"])
def test_fuzzed_files_raise_nothing_but_data_errors(options: str) -> None:
    """Mutants of each format; `python tests/data/fuzz.py --count 100000` makes more.

    With a manifest none is read.
    """
    script = Path(__file__).with_name("fuzz.py")
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-W", "error", script, *options.split()],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
