"""Archives of arrays that come in pieces, read by numpy and by netspec itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from netspec.data import open_dataset
from netspec.data.archive import Entry, npz_chunks
from netspec.data.dataset import Array
from netspec.diagnostics import DataError
from netspec.files import stream_durably

DATA = np.random.default_rng(0).standard_normal((10, 3, 2)).astype(np.float32)


def entries(pieces: Iterator[Array]) -> dict[str, Entry]:
    label = np.arange(10)
    names = np.array(["cat", "dog"])
    return {
        "data": Entry(DATA.shape, DATA.dtype, pieces),
        "label": Entry.of(label),
        "classes": Entry.of(names),
    }


def parts() -> Iterator[Array]:
    """Views of one buffer, which the next piece overwrites."""
    buffer = np.empty((4, 3, 2), np.float32)
    for start in (0, 4, 8):
        piece = DATA[start : start + 4]
        buffer[: len(piece)] = piece
        yield buffer[: len(piece)]


def test_numpy_and_netspec_read_it(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    stream_durably(path, npz_chunks(entries(parts())), 1)
    with np.load(path) as archive:
        assert archive.files == ["data", "label", "classes"]
        assert (archive["data"] == DATA).all()
    dataset = open_dataset("x.npz", split="train", base=tmp_path)
    assert (dataset.arrays["data"] == DATA).all()
    assert dataset.arrays["label"].tolist() == list(range(10))
    assert dataset.classes == ("cat", "dog")


def test_the_same_arrays_give_the_same_bytes() -> None:
    first, again = (b"".join(npz_chunks(entries(parts()))) for _ in range(2))
    assert first == again


def test_what_fails_half_way_leaves_what_was_there(tmp_path: Path) -> None:
    def failing() -> Iterator[Array]:
        yield DATA[:4]
        raise DataError("row 4: damaged")

    path = tmp_path / "x.npz"
    path.write_bytes(b"old")
    with pytest.raises(DataError, match="row 4: damaged"):
        stream_durably(path, npz_chunks(entries(failing())), 1)
    assert [file.name for file in tmp_path.iterdir()] == ["x.npz"]
    assert path.read_bytes() == b"old"


def test_a_disk_without_room_is_told_before_anything_is_computed(tmp_path: Path) -> None:
    def asked() -> Iterator[Array]:
        raise AssertionError
        yield

    with pytest.raises(DataError, match=r"needs .* MB, and .* MB are free"):
        stream_durably(tmp_path / "x.npz", npz_chunks(entries(asked())), 1 << 60)
