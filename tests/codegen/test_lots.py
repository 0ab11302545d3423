"""The numbers that augmentation draws are distributed as their fields say."""

from __future__ import annotations

from colorsys import rgb_to_hsv
from math import log
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from augmented import augmented

from netspec.ir.transform import Transform
from netspec.training.execution.randoms import uniform

Array = npt.NDArray[Any]

BATCH, BATCHES = 50, 40
N = BATCH * BATCHES
CRITICAL = 1.95
"""Kolmogorov's, times √n: what a true distribution exceeds once in a thousand times."""


def drawn(kind: str, columns: int = 1) -> list[dict[str, Array]]:
    """The lots of some iterations, as training feeds them."""
    return [{kind: uniform(7, i, f"transform#{kind}", (BATCH, columns))} for i in range(BATCHES)]


def ramps(height: int = 41, width: int = 41) -> Array:
    """Two channels that say the row and the column, from the middle on."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    image = np.stack([rows - height // 2, columns - width // 2])
    return np.repeat(image[np.newaxis], BATCH, 0)


def distance(values: Array) -> float:
    """Kolmogorov-Smirnov's statistic, times √n, of values that are to be even in [0, 1]."""
    ordered = np.sort(values)
    assert ordered[0] > -1e-3
    assert ordered[-1] < 1 + 1e-3
    steps = np.arange(len(ordered) + 1) / len(ordered)
    gap = max(np.abs(ordered - steps[1:]).max(), np.abs(ordered - steps[:-1]).max())
    return float(gap * np.sqrt(len(ordered)))


def slopes(kind: str, **fields: Any) -> tuple[Array, Array, Array, Array]:
    """How row and column change downwards and to the right, for every image drawn."""
    made = np.concatenate([augmented(ramps(), lots, border="EDGE", **fields)
                           for lots in drawn(kind)])  # fmt: skip
    assert len(made) == N
    down, right = made[:, :, 21, 20], made[:, :, 20, 21]
    return down[:, 0], down[:, 1], right[:, 0], right[:, 1]


def test_rotation_is_even() -> None:
    row_down, column_down, _, _ = slopes("rotation", rotation=(0, 360))
    angles = np.degrees(np.arctan2(-column_down, row_down)) % 360
    assert distance(angles / 360) < CRITICAL
    row_down, column_down, _, _ = slopes("rotation", rotation=30)
    angles = np.degrees(np.arctan2(column_down, row_down))
    assert distance((angles + 30) / 60) < CRITICAL


def test_zoom_is_even_in_its_logarithm() -> None:
    row_down, _, _, column_right = slopes("zoom", zoom=1.6)
    np.testing.assert_allclose(row_down, column_right, rtol=1e-4)
    assert distance((-np.log(row_down) / log(1.6) + 1) / 2) < CRITICAL


def test_stretch_is_even_in_its_logarithm() -> None:
    row_down, _, _, column_right = slopes("stretch", stretch=(0.8, 1.5))
    np.testing.assert_allclose(row_down * column_right, 1, rtol=1e-4)
    assert distance((np.log(row_down) - log(0.8)) / log(1.5 / 0.8)) < CRITICAL


def test_shear_is_even() -> None:
    _, column_down, row_right, _ = slopes("shear", shear=20)
    np.testing.assert_allclose(row_right, 0, atol=1e-4)
    assert distance((np.degrees(np.arctan(column_down)) + 20) / 40) < CRITICAL


def test_translation_is_even_and_its_axes_apart() -> None:
    made = np.concatenate([augmented(ramps(), lots, border="EDGE", translation=10)
                           for lots in drawn("translation", 2)])  # fmt: skip
    down, right = -made[:, 0, 20, 20], -made[:, 1, 20, 20]
    assert distance((down + 10) / 20) < CRITICAL
    assert distance((right + 10) / 20) < CRITICAL
    assert abs(np.corrcoef(down, right)[0, 1]) < 4 / np.sqrt(N)


@pytest.mark.parametrize("kind", ["brightness", "contrast", "saturation"])
def test_colours_are_even(kind: str) -> None:
    pixels = np.zeros((BATCH, 3, 1, 2), np.uint8)
    pixels[:, 0] = [100, 140]
    made = np.concatenate([augmented(pixels, lots, **{kind: (0.25, 1.5)}) for lots in drawn(kind)])
    if kind == "brightness":
        factors = made[:, 0, 0, 0] / 100
    elif kind == "contrast":
        grey = 0.2989 * 120
        factors = (made[:, 0, 0, 0] - grey) / (100 - grey)
    else:
        factors = (made[:, 0, 0, 0] - 29.89) / (100 - 29.89)
    assert distance((factors - 0.25) / 1.25) < CRITICAL


def test_every_other_image_is_flipped() -> None:
    made = np.concatenate([augmented(ramps(), lots, flip_vertical=True)
                           for lots in drawn("flip_vertical")])  # fmt: skip
    flipped = int((made[:, 0, 0, 0] > 0).sum())
    assert abs(flipped - N / 2) < 4 * np.sqrt(N) / 2


def test_every_size_of_a_resize_is_as_likely() -> None:
    """Chi-square of 9 sizes, 8 degrees of freedom: 26.1 is exceeded once in a thousand times."""
    lots = [{**one, "crop": np.full((BATCH, 2), 0.5)} for one in drawn("resize")]
    pixels = ramps(41, 41)
    made = np.concatenate([augmented(pixels, one, resize=(41, 49), crop_size=41) for one in lots])
    sizes = np.rint(41 / (made[:, 0, 21, 20] - made[:, 0, 20, 20])).astype(int)
    counts = np.bincount(sizes - 41, minlength=9)
    assert counts.sum() == N
    assert len(counts) == 9
    assert float(((counts - N / 9) ** 2 / (N / 9)).sum()) < 26.1


def test_cutout_is_about_any_pixel() -> None:
    pixels = np.full((BATCH, 1, 5, 7), 1, np.float32)
    made = np.concatenate([augmented(pixels, lots, cutout=1) for lots in drawn("cutout", 2)])
    counts = (made == 0).sum(0).ravel()
    assert counts.sum() == N
    chi_square = float(((counts - N / 35) ** 2 / (N / 35)).sum())
    assert chi_square < 65.3  # 34 degrees of freedom, once in a thousand times


def test_a_preset_is_ranges_under_those_given() -> None:
    made = Transform.model_validate({"preset": "PLANKTON", "shear": 5})
    assert made == Transform.model_validate(
        {"rotation": [0, 360], "translation": 10, "zoom": 1.6, "stretch": 1.3, "shear": 5,
         "flip_vertical": True}
    )  # fmt: skip
    assert made.zoom == (1 / 1.6, 1.6)
    assert Transform.model_validate(made.model_dump(exclude_defaults=True)) == made


def test_hue_is_even() -> None:
    """Of pure red, all around the circle."""
    pixels = np.zeros((BATCH, 3, 1, 1), np.uint8)
    pixels[:, 0] = 255
    made = np.concatenate([augmented(pixels, lots, hue=0.5) for lots in drawn("hue")])
    hues = [rgb_to_hsv(*pixel / 255)[0] for pixel in made[:, :, 0, 0].astype(float)]
    assert distance((np.array(hues) + 0.5) % 1) < CRITICAL


def test_distortion_is_even() -> None:
    made = np.concatenate([augmented(ramps(), lots, border="EDGE", distortion=(-0.1, 0.3))
                           for lots in drawn("distortion")])  # fmt: skip
    bends = (made[:, 0, 30, 20] / 10 - 1) / (10 / 20.5) ** 2
    assert distance((bends + 0.1) / 0.4) < CRITICAL
