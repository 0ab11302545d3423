"""Text files that list images, or files of HDF5."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from netspec.data import Dataset, fitted, open_dataset, probe
from netspec.data.files.bilinear import resize
from netspec.diagnostics import DataError, UsageError
from netspec.ir.sections import DataSection
from netspec.ir.transform import Transform
from netspec.ir.types import TensorType

from .conftest import image_bytes

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (3, 6, 8, 3)).astype(np.uint8)


def listed(folder: Path, text: str, **fields: Any) -> DataSection:
    """A list, beside three images of which the second has blanks in its name."""
    for name, pixels in zip(("a.png", "b c.png", "d.png"), COLOURS, strict=True):
        (folder / "images").mkdir(exist_ok=True)
        (folder / "images" / name).write_bytes(image_bytes(pixels))
    (folder / "list.txt").write_text(text)
    return DataSection(source="list.txt", batch_size=1, **fields)


def opened(section: DataSection, folder: Path) -> Dataset:
    return open_dataset(section.source, split="train", base=folder, section=section)


LINES = "images/a.png 2\nimages/b c.png -1\r\n\nimages/d.png 7 \n"


class TestImages:
    def test_bgr_and_labels_by_the_last_blank(self, tmp_path: Path) -> None:
        section = listed(tmp_path, LINES)
        dataset = opened(section, tmp_path)
        expected = COLOURS.transpose(0, 3, 1, 2)[:, ::-1]
        np.testing.assert_array_equal(dataset.arrays["data"], expected)
        assert dataset.arrays["label"].tolist() == [2, -1, 7]
        assert probe(section, tmp_path) == {"data": (3, 6, 8), "label": ()}

    def test_names_of_the_arrays(self, tmp_path: Path) -> None:
        section = listed(tmp_path, LINES, arrays=("image", "sim"))
        assert list(opened(section, tmp_path).arrays) == ["image", "sim"]
        assert probe(section, tmp_path) == {"image": (3, 6, 8), "sim": ()}

    def test_grey_and_resized(self, tmp_path: Path) -> None:
        section = listed(tmp_path, LINES, is_color=False, new_height=3, new_width=5)
        dataset = opened(section, tmp_path)
        assert dataset.arrays["data"].shape == (3, 1, 3, 5)
        assert probe(section, tmp_path) == {"data": (1, 3, 5), "label": ()}

    def test_resizing_lets_sizes_differ(self, tmp_path: Path) -> None:
        section = listed(tmp_path, LINES)
        (tmp_path / "images/d.png").write_bytes(image_bytes(COLOURS[0, :4]))
        with pytest.raises(DataError, match=r"d\.png: image of 4x8, the input takes 6x8"):
            opened(section, tmp_path)
        section = listed(tmp_path, LINES, new_height=6, new_width=8)
        (tmp_path / "images/d.png").write_bytes(image_bytes(COLOURS[0, :4]))
        assert opened(section, tmp_path).arrays["data"].shape == (3, 3, 6, 8)

    def test_where_the_images_lie(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        section = listed(tmp_path, "/a.png 0\nd.png 1\n", root_folder="images/")
        assert len(opened(section, tmp_path)) == 2
        (tmp_path / "lists").mkdir()
        section = listed(tmp_path, LINES)
        (tmp_path / "list.txt").rename(tmp_path / "lists/list.txt")
        section = DataSection(source="lists/list.txt", batch_size=1)
        with pytest.raises(DataError, match=r"lists/images/a.png: cannot be read: No such file"):
            opened(section, tmp_path)
        monkeypatch.chdir(tmp_path)
        assert len(opened(section, tmp_path)) == 3

    @pytest.mark.parametrize(
        ("line", "shown"),
        [("images/a.png", "images/a.png"), ("images/a.png x", "images/a.png x"), ("4", "4"),
         ("images/a.png 1.5", "images/a.png 1.5"), ("images/a.png " + "9" * 30, "images/a")],
    )  # fmt: skip
    def test_lines_that_are_none(self, tmp_path: Path, line: str, shown: str) -> None:
        section = listed(tmp_path, f"images/a.png 1\n\n{line}\n")
        with pytest.raises(DataError, match=rf"list.txt: line 3: not `path label` .*: {shown}"):
            opened(section, tmp_path)

    def test_other_faults(self, tmp_path: Path) -> None:
        section = listed(tmp_path, "\n")
        with pytest.raises(DataError, match=r"list.txt: holds no samples"):
            opened(section, tmp_path)
        (tmp_path / "list.txt").write_bytes(b"images/a.png 1\nimages/\xff.png 1\n")
        with pytest.raises(DataError, match=r"list.txt: line 2: not UTF-8"):
            opened(section, tmp_path)
        (tmp_path / "list.txt").write_bytes(b"images/a\0.png 1\n")
        with pytest.raises(DataError, match="is not a name that a file can have"):
            opened(section, tmp_path)

    def test_a_list_by_any_name(self, tmp_path: Path) -> None:
        listed(tmp_path, LINES)
        (tmp_path / "list.txt").rename(tmp_path / "val")
        assert len(open_dataset("val", split="test", base=tmp_path)) == 3


def test_resizing_by_hand() -> None:
    """Flat stays flat; an even shrink is the mean of the four around; edges are held."""
    assert (resize(np.full((3, 9, 7), 77, np.uint8), (4, 31)) == 77).all()
    ramp = np.arange(0, 240, 10, np.uint8).reshape(1, 4, 6)
    assert resize(ramp, (2, 3))[0].tolist() == [[35, 55, 75], [155, 175, 195]]
    wide = resize(ramp[:, :1], (1, 12))[0, 0]
    assert wide.tolist() == [0, 3, 8, 13, 18, 23, 28, 33, 38, 43, 48, 50]


@pytest.mark.parametrize("size", [(75, 90), (1, 1), (33, 500), (64, 64)])
@pytest.mark.parametrize("wanted", [(32, 32), (256, 256), (75, 45), (37, 200), (1, 3)])
def test_resizing_is_opencvs(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    cv2 = pytest.importorskip("cv2")
    pixels = RNG.integers(0, 256, (*size, 3)).astype(np.uint8)
    expected = cv2.resize(pixels, wanted[::-1], interpolation=cv2.INTER_LINEAR)
    made = resize(pixels.transpose(2, 0, 1), wanted).transpose(1, 2, 0)
    np.testing.assert_array_equal(made, expected)


def test_a_list_is_read_as_opencv_reads_it(tmp_path: Path) -> None:
    """Grey is made of colours by libpng there, whose weights differ a little."""
    cv2 = pytest.importorskip("cv2")
    for colour in (True, False):
        section = listed(tmp_path, LINES, is_color=colour, new_height=9, new_width=4)
        made = opened(section, tmp_path).arrays["data"]
        for row, name in enumerate(("a.png", "b c.png", "d.png")):
            mode = cv2.IMREAD_COLOR if colour else cv2.IMREAD_GRAYSCALE
            read = cv2.resize(cv2.imread(str(tmp_path / "images" / name), mode), (4, 9))
            expected = np.atleast_3d(read).transpose(2, 0, 1)
            assert np.abs(made[row] - expected.astype(int)).max() <= (0 if colour else 2)


class TestHdf5:
    def written(self, path: Path, **arrays: Any) -> Path:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file.create_dataset(name, data=array)
        return path

    def test_one_file_and_many(self, tmp_path: Path) -> None:
        data = RNG.standard_normal((6, 2, 3))
        for i in range(2):
            self.written(tmp_path / f"{i}.h5", data=data[3 * i : 3 * i + 3],
                         label=np.array([[1.0], [0.0], [2.0]]))  # fmt: skip
        (tmp_path / "list.txt").write_text("0.h5\n\n1.h5\n")
        one = open_dataset("0.h5", split="train", base=tmp_path)
        np.testing.assert_array_equal(one.arrays["data"], data[:3].astype(np.float32))
        both = open_dataset("list.txt", split="train", base=tmp_path)
        np.testing.assert_array_equal(both.arrays["data"], data.astype(np.float32))
        assert probe("list.txt", tmp_path) == {"data": (2, 3), "label": (1,)}
        inputs = {"data": TensorType((4, 2, 3)), "label": TensorType((4,), "int64")}
        label = fitted(both, inputs).arrays["label"]
        assert (label.dtype, label.tolist()) == (np.int64, [1, 0, 2, 1, 0, 2])

    def test_labels_that_are_no_classes_stay(self, tmp_path: Path) -> None:
        for label in ([0.5, 1, 2], [np.nan, 1, 2], [[0, 1], [1, 0], [0, 0]]):
            dataset = Dataset({"label": np.array(label, np.float32)}, (), "x")
            made = fitted(dataset, {"label": TensorType((4,), "int64")}).arrays["label"]
            assert made.shape == np.shape(label)
            assert made.dtype == np.float32 or made.ndim == 2

    def test_a_transform_is_refused(self, tmp_path: Path) -> None:
        self.written(tmp_path / "a.h5", data=np.zeros((2, 1, 4, 4)))
        section = DataSection(source="a.h5", batch_size=1, transform=Transform(scale=2))
        with pytest.raises(DataError, match="values from HDF5 take no transform, as in Caffe"):
            opened(section, tmp_path)

    def test_files_that_differ(self, tmp_path: Path) -> None:
        self.written(tmp_path / "0.h5", data=np.zeros((2, 3)))
        self.written(tmp_path / "1.h5", data=np.zeros((2, 4)))
        (tmp_path / "list.txt").write_text("0.h5\n1.h5\n")
        with pytest.raises(DataError, match=r"1.h5: holds `data` of 4, the first file `data` of 3"):
            open_dataset("list.txt", split="train", base=tmp_path)
        (tmp_path / "list.txt").write_text("0.h5\nimage.png 3\n")
        with pytest.raises(DataError, match=r"file 2 of the list is not one of HDF5: image.png 3"):
            open_dataset("list.txt", split="train", base=tmp_path)

    def test_what_is_no_array_of_samples(self, tmp_path: Path) -> None:
        path = tmp_path / "a.h5"
        for make, message in (
            (lambda f: f.create_dataset("x", data="text"), "`x` holds 1 of object, not numbers"),
            (lambda f: f.create_dataset("x", data=1.0), "`x` holds 1 of float64, not numbers"),
            (lambda f: f.create_group("x"), "`x` is no data set of this file"),
            (lambda f: f.__setitem__("x", h5py.ExternalLink("b.h5", "y")), "no data set of this"),
            (
                lambda f: f.create_dataset("x", (1 << 30, 9), "f4"),
                "declares 38,654,705,664 bytes out of",
            ),
            (
                lambda f: f.create_dataset("x", (3,), "f4", external=[("raw", 0, 12)]),
                "in other files",
            ),
            (lambda f: None, "differ in samples, or there are none"),
        ):
            with h5py.File(path, "w") as file:
                make(file)
            with pytest.raises(DataError, match=f"a.h5: .*{message}"):
                open_dataset("a.h5", split="train", base=tmp_path)
        self.written(path, data=np.zeros((2, 1)), label=np.zeros(3))
        with pytest.raises(DataError, match=r"differ in samples, or there are none: \[2, 3\]"):
            open_dataset("a.h5", split="train", base=tmp_path)

    def test_damage(self, tmp_path: Path) -> None:
        path = self.written(tmp_path / "a.h5", data=RNG.standard_normal((9, 5)))
        whole = path.read_bytes()
        for cut in range(0, len(whole), 97):
            path.write_bytes(whole[:cut])
            with pytest.raises(DataError, match=r"a\.h5: "):
                open_dataset("a.h5", split="train", base=tmp_path)

    def test_without_the_package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.written(tmp_path / "a.h5", data=np.zeros((2, 3)))
        monkeypatch.setitem(sys.modules, "h5py", None)
        with pytest.raises(UsageError, match=r"a.h5: .*pip install 'netspec\[hdf5\]'"):
            open_dataset("a.h5", split="train", base=tmp_path)


class TestSections:
    @pytest.mark.parametrize(
        "fields",
        [{"root_folder": "x"}, {"is_color": False},
         {"new_height": 3, "new_width": 3}, {"transform": Transform(force_gray=True)}],
    )  # fmt: skip
    def test_what_a_format_does_not_take(self, tmp_path: Path, fields: dict[str, Any]) -> None:
        np.savez(tmp_path / "a.npz", data=np.zeros((2, 3)))
        section = DataSection(source="a.npz", batch_size=1, **fields)
        with pytest.raises(DataError, match=r"a.npz: `\w+` is not for an .npz of arrays"):
            opened(section, tmp_path)
        instead = section.model_copy(update={"source": "b.npz"})
        dataset = open_dataset("a.npz", split="train", base=tmp_path, section=instead)
        assert len(dataset) == 2, "what takes another's place is as it is"

    def test_probes(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", data=np.zeros((2, 3, 4)), label=np.zeros(2, int))
        assert probe("a.npz", tmp_path) == {"data": (3, 4), "label": ()}
        assert probe("none", tmp_path) is None
        assert probe(DataSection(batch_size=1), tmp_path) is None
        (tmp_path / "b.bin").write_bytes(b"\0\0")
        with pytest.raises(DataError, match="of no known format"):
            probe("b.bin", tmp_path)
