"""Mean images, of Caffe and of numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netspec.blob import mean_file
from netspec.data import mean_image
from netspec.diagnostics import DataError

MEAN = (np.random.default_rng(0).random((3, 4, 5)) * 255).astype(np.float32)


def binaryproto(path: Path, image: Any) -> Path:
    path.write_bytes(b"".join(bytes(chunk) for chunk in mean_file(image)))
    return path


def npy(path: Path, array: Any) -> Path:
    np.save(path, array)
    return path


def test_both_forms(tmp_path: Path) -> None:
    for path in (
        binaryproto(tmp_path / "m.binaryproto", MEAN),
        npy(tmp_path / "m.npy", MEAN),
        npy(tmp_path / "d.npy", MEAN.astype(np.float64)),
        npy(tmp_path / "f.npy", np.asfortranarray(MEAN)),
        npy(tmp_path / "b.npy", MEAN[np.newaxis]),
    ):
        np.testing.assert_array_equal(mean_image(path, (3, 4, 5)), MEAN)
        assert mean_image(path).dtype == np.float32
    np.testing.assert_array_equal(
        mean_image(npy(tmp_path / "i.npy", MEAN.astype(np.uint8))), MEAN.astype(np.uint8)
    )


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (MEAN[0], "4x5 is no image of channels x height x width"),
        (MEAN[:, :0], "3x0x5 is no image"),
        (MEAN * np.float32(np.nan), "is not a finite number"),
        (np.array(["a"] * 3), "values of type <U1; arrays are of"),
        (np.array([{}]), "Python objects"),
    ],
)
def test_what_is_no_mean_image(tmp_path: Path, array: Any, message: str) -> None:
    with pytest.raises(DataError, match=rf"m\.npy: .*({message})"):
        mean_image(npy(tmp_path / "m.npy", array))


def test_damage(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.npy: cannot be read: No such file"):
        mean_image(tmp_path / "none.npy")
    with pytest.raises(DataError, match="not a finite number"):
        mean_image(binaryproto(tmp_path / "m.binaryproto", MEAN * np.float32(np.inf)))
    with pytest.raises(DataError, match="a mean of 3x4x5 for images of 3x9x9"):
        mean_image(binaryproto(tmp_path / "m.binaryproto", MEAN), (3, 9, 9))
    for path in (tmp_path / "m.binaryproto", npy(tmp_path / "m.npy", MEAN)):
        whole = path.read_bytes()
        for cut in range(0, len(whole), 9):
            path.write_bytes(whole[:cut])
            with pytest.raises(DataError, match=rf"{path.name}: "):
                mean_image(path)
        path.write_bytes(whole + b"x")
        with pytest.raises(DataError, match=rf"{path.name}: "):
            mean_image(path)
