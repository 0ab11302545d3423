"""BlobProto and mean files: every form that Caffe ever wrote, by google.protobuf, and lies."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from netspec.blob import mean_file, read_blob, read_mean, write_blob
from netspec.diagnostics import DataError
from netspec.wire import Message, WireError, Writer

ARRAYS = hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=5, max_side=4))


def read(blob: Any) -> np.ndarray[Any, Any]:
    return read_blob(Message(blob.SerializeToString()))


@given(array=ARRAYS)
def test_every_form_of_the_data(proto: SimpleNamespace, array: np.ndarray[Any, Any]) -> None:
    values = array.reshape(-1).tolist()
    for make in (proto.BlobProto, proto.UnpackedBlob):
        for key in ("data", "double_data"):
            blob = make(**{key: values})
            blob.shape.dim.extend(array.shape)
            np.testing.assert_array_equal(read(blob), array)


@given(array=ARRAYS)
def test_protobuf_reads_what_is_written(
    proto: SimpleNamespace, array: np.ndarray[Any, Any]
) -> None:
    theirs = proto.BlobProto.FromString(b"".join(write_blob(array).chunks))
    assert tuple(theirs.shape.dim) == array.shape
    held = np.array(theirs.data, np.float32).reshape(array.shape)
    np.testing.assert_array_equal(held, array)


def test_four_axes_of_old_go_before_the_shape(proto: SimpleNamespace) -> None:
    blob = proto.BlobProto(num=1, channels=1, height=2, width=3, data=range(6))
    blob.shape.dim.extend([6])
    assert read(blob).shape == (1, 1, 2, 3)
    assert read(proto.BlobProto(num=2, channels=1, height=1, width=1, data=[1, 2])).shape[0] == 2


def test_a_missing_one_of_the_four_axes_is_0_as_in_caffe(proto: SimpleNamespace) -> None:
    with pytest.raises(WireError, match="a blob of 0x0x0x3 takes 0 values, 3 are there"):
        read(proto.BlobProto(width=3, data=range(3)))


def test_a_single_number_is_written_without_a_shape(proto: SimpleNamespace) -> None:
    blob = proto.BlobProto()
    blob.ParseFromString(b"".join(write_blob(np.float32(3).reshape(())).chunks))
    assert list(blob.data) == [3]
    assert not blob.HasField("shape")


def test_a_blob_without_a_shape_is_a_single_number(proto: SimpleNamespace) -> None:
    assert read(proto.BlobProto(data=[3])).shape == ()
    with pytest.raises(WireError, match="a blob of a single number takes 1 values, 2 are there"):
        read(proto.BlobProto(data=[3, 4]))


def test_gradients_are_passed_over(proto: SimpleNamespace) -> None:
    blob = proto.BlobProto(data=[1], diff=[2, 3], double_diff=[4])
    assert read(blob).tolist() == 1


def test_doubles_go_before_floats_as_in_caffe(proto: SimpleNamespace) -> None:
    assert read(proto.BlobProto(data=[1], double_data=[2])).tolist() == 2


def test_a_double_beyond_float32(proto: SimpleNamespace) -> None:
    blob = proto.BlobProto(double_data=[1, float("inf"), -1e39])
    blob.shape.dim.extend([3])
    with pytest.raises(WireError, match=r"value 2, -1e\+39, is beyond what float32 holds"):
        read(blob)
    blob.double_data[2] = 0
    assert read(blob).tolist() == [1, float("inf"), 0]


def test_a_signalling_nan_is_a_nan() -> None:
    bits = np.array([0x7FF0000000000001], np.uint64).tobytes()
    blob = Writer()
    blob.content(8, bits)
    assert np.isnan(read_blob(Message(b"".join(blob.chunks))))


@pytest.mark.parametrize(
    ("dim", "words"),
    [
        ([1 << 40], "a blob of 1099511627776 is beyond what Caffe holds"),
        ([1 << 30], "takes 1,073,741,824 values, 1 are there"),
        ([1 << 62, 0, 1 << 62], "is beyond what Caffe holds"),
        ([-1, -1], "a blob of -1x-1 has a negative extent"),
        ([0], "takes 0 values, 1 are there"),
        ([1] * 33, "a list of too many integers"),
    ],
)
def test_shapes_that_lie(proto: SimpleNamespace, dim: list[int], words: str) -> None:
    blob = proto.BlobProto(data=[1])
    blob.shape.dim.extend(dim)
    with pytest.raises(WireError, match=words):
        read(blob)


@pytest.mark.parametrize("axes", [(3, 4, 5), (1, 3, 4, 5)])
def test_mean_files(proto: SimpleNamespace, tmp_path: Path, axes: tuple[int, ...]) -> None:
    image = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    blob = proto.BlobProto(data=range(60))
    blob.shape.dim.extend(axes)
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(blob.SerializeToString())
    np.testing.assert_array_equal(read_mean(path), image)


def test_a_mean_file_is_written_in_the_form_of_compute_image_mean(
    proto: SimpleNamespace, tmp_path: Path
) -> None:
    image = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(b"".join(mean_file(image)))
    theirs = proto.BlobProto.FromString(path.read_bytes())
    assert (theirs.num, theirs.channels, theirs.height, theirs.width) == (1, 3, 4, 5)
    assert list(theirs.data) == list(range(60))
    np.testing.assert_array_equal(read_mean(path), image)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "mean: is empty"),
        (b"\x08", "mean: byte 1: truncated within an integer"),
        (b"".join(write_blob(np.zeros((2, 3, 4, 5))).chunks), "byte 0: 2x3x4x5 is no image"),
        (b"".join(write_blob(np.zeros(0)).chunks), "byte 0: 0 is no image of channels x"),
    ],
)
def test_mean_files_that_are_none(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "mean"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_mean(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    for path, words in {
        tmp_path: "is a folder, not a file|is not a regular file",
        tmp_path / "none": "none: cannot be read: No such file",
        Path("a\0b"): r"a\\x00b: is not a name that a file can have",
        Path("/dev/null"): "is not a regular file",
    }.items():
        with pytest.raises(DataError, match=words):
            read_mean(path)


def test_an_empty_list_is_an_empty_blob() -> None:
    blob = Writer()
    blob.floats(5, np.empty(0))
    shape = Writer()
    shape.integers(1, [0, 3])
    blob.message(7, shape)
    assert read_blob(Message(b"".join(blob.chunks))).shape == (0, 3)
