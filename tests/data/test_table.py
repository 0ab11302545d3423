"""CSV: features, labels, images with targets, and every cell that is not what it should be."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netspec.data import Dataset, fitted, open_dataset, probe
from netspec.data.files.rows import MAX_LINE
from netspec.diagnostics import DataError
from netspec.ir.sections import DataSection
from netspec.ir.types import TensorType

from .conftest import image_bytes

RNG = np.random.default_rng(0)


def opened(
    folder: Path, text: str | bytes, name: str = "a.csv", shape: Any = None, **fields: Any
) -> Dataset:
    content = text.encode() if isinstance(text, str) else text
    (folder / name).write_bytes(content)
    section = DataSection(source=name, batch_size=1, **fields)
    return open_dataset(name, split="train", base=folder, section=section, shape=shape)


def lists(dataset: Dataset) -> dict[str, Any]:
    return {name: array.tolist() for name, array in dataset.arrays.items()}


class TestFeatures:
    def test_the_last_column_is_the_label(self, tmp_path: Path) -> None:
        found = opened(tmp_path, "1,2.5,0\n-3e1,.5,2\n")
        assert lists(found) == {"data": [[1, 2.5], [-30, 0.5]], "label": [0, 2]}
        assert found.arrays["data"].dtype == np.float32
        assert found.arrays["label"].dtype == np.int64
        assert probe("a.csv", tmp_path) == {"data": (2,), "label": ()}

    def test_a_header_and_a_column_of_that_name(self, tmp_path: Path) -> None:
        found = opened(tmp_path, "\ufefflabel,a,b\r\n1,2,3\r\n\r\n4,5,6\r\n")
        assert lists(found) == {"data": [[2, 3], [5, 6]], "label": [1, 4]}

    @pytest.mark.parametrize("label", ["b", "2"])
    def test_a_column_that_the_section_names(self, tmp_path: Path, label: str) -> None:
        found = opened(tmp_path, "a,b,c\n1,2,3\n", label=label)
        assert lists(found) == {"data": [[1, 3]], "label": [2]}

    def test_names_of_classes(self, tmp_path: Path) -> None:
        text = 'w,"the kind"\n1,setosa\n2,"iris, ""wild"""\n3,setosa\n'
        found = opened(tmp_path, text)
        assert found.classes == ('iris, "wild"', "setosa")
        assert found.arrays["label"].tolist() == [1, 0, 1]
        found = opened(tmp_path, text, classes=("setosa", "virginica", 'iris, "wild"'))
        assert found.arrays["label"].tolist() == [0, 2, 0]
        assert found.classes[1] == "virginica"

    def test_labels_that_are_real_numbers(self, tmp_path: Path) -> None:
        found = opened(tmp_path, "1,0.5\n2,3\n")
        assert found.arrays["label"].dtype == np.float32
        assert found.arrays["label"].tolist() == [0.5, 3]

    def test_arrays_of_several_columns(self, tmp_path: Path) -> None:
        text = "a[x],b[0],a[y],n.m,label\n1,2,3,4,5\n"
        assert lists(opened(tmp_path, text)) == {
            "a": [[1, 3]], "b": [[2]], "data": [[4]], "label": [5],
        }  # fmt: skip

    def test_pixels_become_images(self, tmp_path: Path) -> None:
        found = opened(tmp_path, "label,p0,p1,p2,p3\n7,0,1,2,3\n", shape=(1, 2, 2))
        assert found.arrays["data"].tolist() == [[[[0, 1], [2, 3]]]]

    def test_tabs(self, tmp_path: Path) -> None:
        assert lists(opened(tmp_path, "1\t2\t3\n", "a.tsv")) == {"data": [[1, 2]], "label": [3]}

    def test_more_rows_than_a_block(self, tmp_path: Path) -> None:
        values = RNG.standard_normal((2500, 3)).astype(np.float32)
        text = "".join(
            f"{a!r},{b!r},{c!r},{i % 5}\n" for i, (a, b, c) in enumerate(values.tolist())
        )
        found = opened(tmp_path, text)
        np.testing.assert_array_equal(found.arrays["data"], values)
        with pytest.raises(
            DataError, match=r"a.csv: line 2,501, column 2: `x` is no finite number"
        ):
            opened(tmp_path, f"{text}1,x,3,0\n")

    @given(st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False),
                             min_size=3, max_size=3), min_size=1, max_size=9))  # fmt: skip
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_what_python_writes(self, tmp_path: Path, table: list[list[float]]) -> None:
        with (tmp_path / "b.csv").open("w", newline="") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows([*row, 1] for row in table)
        found = open_dataset("b.csv", split="train", base=tmp_path)
        np.testing.assert_array_equal(found.arrays["data"], np.array(table, np.float32))


class TestImages:
    PIXELS = RNG.integers(0, 256, (2, 4, 6, 3)).astype(np.uint8)

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "im").mkdir()
        for name, pixels in zip(("im/a.png", "im/b, c.png"), self.PIXELS, strict=True):
            (tmp_path / name).write_bytes(image_bytes(pixels))
        return tmp_path

    def test_labels(self, folder: Path) -> None:
        found = opened(folder, 'path,kind\nim/a.png,cat\n"im/b, c.png",ant\n')
        np.testing.assert_array_equal(found.arrays["data"], self.PIXELS.transpose(0, 3, 1, 2))
        assert (found.arrays["label"].tolist(), found.classes) == ([1, 0], ("ant", "cat"))
        assert probe("a.csv", folder) == {"data": (3, 4, 6), "label": ()}

    def test_targets(self, folder: Path) -> None:
        found = opened(folder, "im/a.png,.1,.2,.3,.4\nim/a.png,1,2,3,4\n", arrays=("data", "box"))
        np.testing.assert_array_equal(
            found.arrays["box"], np.array([[0.1, 0.2, 0.3, 0.4], [1, 2, 3, 4]], np.float32)
        )
        assert probe("a.csv", folder) == {"data": (3, 4, 6), "label": (4,)}

    def test_labels_and_targets(self, folder: Path) -> None:
        header = "image,label,box[left],box[right],weight"
        found = opened(folder, f"{header}\nim/a.png,3,1,2,9\n")
        assert {n: v for n, v in lists(found).items() if n != "data"} == {
            "label": [3], "box": [[1, 2]], "target": [[9]],
        }  # fmt: skip

    def test_resized_and_found_elsewhere(self, folder: Path) -> None:
        found = opened(
            folder, "a.png,1\n", root_folder="im", new_height=2, new_width=3, shape=(1, 9, 9)
        )
        assert found.arrays["data"].shape == (1, 1, 2, 3)

    def test_whole_targets_are_labels_where_these_are_taken(self, folder: Path) -> None:
        found = opened(folder, "path,label[a],label[b]\nim/a.png,1,2\n")
        fit = fitted(found, {"label": TensorType((None, 2), "int64")})  # type: ignore[arg-type]
        assert fit.arrays["label"].dtype == np.int64

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("im/a.png,1\nim/none.png,1\n", "im/none.png: cannot be read: No such file"),
            ("im/a.png,1\n,1\n", "is a folder, not a file"),
            ("path,data[0],label\nim/a.png,1,2\n", r"`data\[…\]` beside the column of images"),
            ("im/a.png,1,x\n", "line 1, column 3: `x` is no finite number"),
            ("im/a.png\0,1\nim/a.png\0,1\n", "a.csv: |NUL"),
        ],
    )
    def test_faults(self, folder: Path, text: str, message: str) -> None:
        with pytest.raises(DataError, match=message):
            opened(folder, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.csv: holds no samples"),
        ("\n\r\n", "a.csv: holds no samples"),
        ("a,b\n", "a.csv: holds no samples, but a header alone"),
        ("1,2\n3\n", "line 2: 1 columns, and 2 in the first row"),
        ("1,2\n3,4,5\n", "line 2: 3 columns, and 2 in the first row"),
        ("a,b\nnan,1\n", "line 2, column 1: `nan` is no finite number"),
        ("a,b\n1,1\n-inf,1\n", "line 3, column 1: `-inf` is no finite number"),
        ("1e999,1\n", "line 1, column 1: `1e999` is no finite number"),
        ("3.5e38,1\n", "line 1, column 1: `3.5e38` is no finite number"),
        ("1,,0\n", "line 1, column 2: an empty cell is no finite number"),
        ("1_0,2\n", "line 1, column 1: `1_0` is no finite number"),
        ("x,y\n٣,2\n", "line 2, column 1: `٣` is no finite number"),
        ("0x10,2\n", "line 1, column 1: `0x10` is no finite number"),
        ("1,2\n2,\n", "line 2, column 2: no label"),
        ("1,2\n2,x\n", "line 2, column 2: label `x` is no finite number, and the first one is"),
        ("1,0.5\n2,1e99\n", "line 2, column 2: label `1e99` is no finite number"),
        (b"1,2\n3,\xff4\n", "line 2, byte 2: not UTF-8"),
        ('1,"2\n3,4\n', "not CSV: unexpected end of data"),
        ('1,"2"3,4\n', "line 1: not CSV: ',' expected after '\"'"),
        ("1," + "9" * MAX_LINE + "\n", "line 1: over 4 MiB"),
        ("1," + "9" * 200_000 + "\n", r"line 1: not CSV: field larger than field limit \(131072\)"),
        ("label,label\n1,2\n", "line 1: two columns `label`"),
        ("label,label[0],a\n1,2,3\n", r"`label` and `label\[…\]` are two arrays of one name"),
        ("a[0],label\n1,2\n", "line 2: no column of features"),
    ],
)  # fmt: skip
def test_faults(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        opened(tmp_path, text)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"label": "c"}, "line 1: no column `c`; its columns are a, b"),
        ({"label": "3"}, "line 1: no column `3`"),
        ({"label": "0"}, "line 1: no column `0`"),
        ({"classes": ("x",)}, "line 3, column 2: label `y` is not among the section's classes"),
        ({"is_color": False}, "`is_color` is not for a .csv"),
    ],
)
def test_faults_of_the_section(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        opened(tmp_path, "a,b\n1,x\n2,y\n", **fields)


def test_a_label_is_for_sources_with_several(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", data=np.zeros((1, 1)))
    section = DataSection(source="a.npz", batch_size=1, label="x")
    with pytest.raises(DataError, match=r"`label` is not for an .npz"):
        open_dataset("a.npz", split="train", base=tmp_path, section=section)


def test_what_no_reader_takes(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_bytes(b"\0")
    with pytest.raises(DataError, match=r"of no known format; a source is .*CIFAR.*\.csv .*\.zip"):
        open_dataset("a.xyz", split="train", base=tmp_path)
