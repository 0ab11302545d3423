"""Brightness, contrast and saturation against Pillow's ImageEnhance, hue against colorsys."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from augmented import augmented
from PIL import Image, ImageEnhance

from netspec.diagnostics import UsageError

Array = npt.NDArray[Any]

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 3, 9, 11)).astype(np.uint8)
PIXELS[0] = PIXELS[0, :1]  # a grey one
PIXELS[1, :, 0] = 255
PIXELS[1, :, 1] = 0
ENHANCERS: dict[str, Any] = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}


def enhanced(kind: str, image: Array, factor: float) -> Array:
    """Pillow's, which rounds to bytes, and grey and the mean of grey before them."""
    (shown,) = [image[0]] if len(image) == 1 else [image.transpose(1, 2, 0)]
    made = np.asarray(ENHANCERS[kind](Image.fromarray(shown)).enhance(factor))
    return made[np.newaxis] if made.ndim == 2 else made.transpose(2, 0, 1)


@pytest.mark.parametrize("kind", ENHANCERS)
@pytest.mark.parametrize("by", [0.4, (0.5, 3)], ids=str)
def test_enhanced(kind: str, by: Any) -> None:
    u = RNG.random((6, 1)).astype(np.float32)
    made = augmented(PIXELS, {kind: u}, **{kind: by})
    low, high = by if isinstance(by, tuple) else (1 - by, 1 + by)
    for i, image in enumerate(PIXELS):
        factor = low + (high - low) * float(u[i, 0])
        expected = enhanced(kind, image, factor)
        np.testing.assert_allclose(made[i], expected, atol=1 + 0.6 * abs(1 - factor))


def test_grey_images_have_brightness_and_contrast() -> None:
    grey = PIXELS[:, :1]
    for kind in ("brightness", "contrast"):
        made = augmented(grey, **{kind: (1.7, 1.7)})
        expected = np.stack([enhanced(kind, image, 1.7) for image in grey])
        np.testing.assert_allclose(made, expected, atol=1.5)


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_hue_turns_around_the_circle(order: str) -> None:
    u = np.array([[0.0], [0.25], [0.5], [0.75], [0.9999], [0.1]], np.float32)
    turned = PIXELS if order == "RGB" else PIXELS[:, ::-1]
    made = augmented(turned, {"hue": u}, hue=0.5, order=order)
    made = made if order == "RGB" else made[:, ::-1]
    for i, image in enumerate(PIXELS / 255):
        for row, column in np.ndindex(9, 11):
            hue, saturation, value = colorsys.rgb_to_hsv(*image[:, row, column])
            expected = colorsys.hsv_to_rgb((hue + float(u[i, 0]) - 0.5) % 1, saturation, value)
            np.testing.assert_allclose(made[i, :, row, column] / 255, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["contrast", "saturation"])
def test_the_order_of_channels_counts(kind: str) -> None:
    made = augmented(PIXELS, **{kind: (0.3, 0.3)})
    turned = augmented(PIXELS[:, ::-1], order="BGR", **{kind: (0.3, 0.3)})
    np.testing.assert_allclose(turned[:, ::-1], made, atol=1e-3)


def test_one_after_the_other_and_cut_off_between() -> None:
    made = augmented(PIXELS, brightness=(2, 2), contrast=(0, 0))
    bright = np.minimum(PIXELS * 2.0, 255)
    grey = np.tensordot([0.2989, 0.587, 0.114], bright, (0, 1)).mean((1, 2))
    np.testing.assert_allclose(
        made, np.broadcast_to(grey.reshape(6, 1, 1, 1), made.shape), rtol=1e-4
    )


def test_colours_come_before_all_else() -> None:
    """The value outside the image is as it is given."""
    made = augmented(PIXELS, brightness=(0, 0), pad=1, fill=9, scale=0.5)
    assert (made[:, :, 1:-1, 1:-1] == 0).all()
    assert (made[:, :, 0] == 4.5).all()


@pytest.mark.parametrize(
    ("kind", "pixels", "said"),
    [("saturation", PIXELS[:, :1], "saturation is for images of 3 channels, and `data` is 1x9x11"),
     ("hue", PIXELS[:, :2], "hue is for images of 3 channels, and `data` is 2x9x11"),
     ("contrast", PIXELS[:, :2], "contrast is for images of 1 or 3 channels, and `data` is 2x9x11"),
     ("brightness", PIXELS[:, 0, 0], "brightness is for images, and `data` is 11"),
     ("brightness", PIXELS / np.float32(255), "stored as bytes, from 0 to 255, and `data` is st")],
    ids=str,
)  # fmt: skip
def test_what_has_no_such_colour_is_refused(kind: str, pixels: Array, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        augmented(pixels, **{kind: 0.1})


@pytest.mark.parametrize("side", [1, 2, 3, 4, 9])
def test_cutout(side: int) -> None:
    """DeVries and Taylor's: about any pixel, values being normalised, and cut off at the edge."""
    u = RNG.random((6, 2)).astype(np.float32)
    made = augmented(PIXELS, {"cutout": u}, cutout=side, mean_value=(128,), scale=1 / 64)
    expected = ((PIXELS - 128.0) / 64).astype(np.float32)
    for i in range(6):
        row, column = int(u[i, 0] * 9), int(u[i, 1] * 11)
        top, left = row - side // 2, column - side // 2
        expected[i, :, max(top, 0) : top + side, max(left, 0) : left + side] = 0
    np.testing.assert_allclose(made, expected, atol=1e-6)
