"""What moves pixels against Pillow's resampling of a widened image, for known lots."""

from __future__ import annotations

from math import cos, radians, sin
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from augmented import augmented
from PIL import Image

from netspec.diagnostics import UsageError

Array = npt.NDArray[Any]

RNG = np.random.default_rng(0)
WIDE = 64
"""Cells that images are widened by, so that Pillow's own border is out of sight."""
MODES: dict[str, Any] = {"CONSTANT": "constant", "EDGE": "edge", "REFLECT": "reflect"}


def images(channels: int, height: int, width: int, n: int = 4) -> Array:
    return RNG.integers(0, 256, (n, channels, height, width)).astype(np.uint8)


def forward(rotation: float = 0, shear: float = 0, zoom: float = 1, stretch: float = 1) -> Array:
    """scikit-image's AffineTransform of (x, y), y downwards, its angles against the clock."""
    r, s = -radians(rotation), -radians(shear)
    x, y = zoom * stretch, zoom / stretch
    return np.array([[x * cos(r), -y * sin(r + s)], [x * sin(r), y * cos(r + s)]])


def moved(
    image: Array,
    matrix: Array,
    shift: tuple[float, float] = (0, 0),
    extent: tuple[int, int] | None = None,
    border: str = "CONSTANT",
    fill: float = 0,
) -> Array:
    """Pillow's: `matrix` about the middles of what is there and what is seen, then `shift`."""
    height, width = image.shape[-2:]
    seen = extent or (height, width)
    inverse = np.linalg.inv(matrix)
    middle = np.array([width / 2 + WIDE, height / 2 + WIDE])
    start = middle - inverse @ (np.array([seen[1] / 2, seen[0] / 2]) + np.array(shift))
    data = (*inverse[0], start[0], *inverse[1], start[1])
    more = {"constant_values": fill} if border == "CONSTANT" else {}
    planes = []
    for plane in image.astype(np.float32):
        wide = np.pad(plane, WIDE, mode=MODES[border], **more)
        made = Image.fromarray(wide).transform(
            (seen[1], seen[0]), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR
        )
        planes.append(np.asarray(made))
    return np.stack(planes)


def batch(pixels: Array, *args: Any, **options: Any) -> Array:
    return np.stack([moved(image, *args, **options) for image in pixels])


SHAPES = [(3, 16, 16), (1, 9, 14), (2, 15, 8), (3, 7, 7)]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


@each_shape
@pytest.mark.parametrize("border", MODES)
@pytest.mark.parametrize(
    "fields",
    [{"rotation": 30}, {"rotation": -170.5}, {"zoom": 1.6}, {"zoom": 0.5}, {"stretch": 1.3},
     {"shear": 20}, {"shear": -35}, {"rotation": 77, "zoom": 0.7, "stretch": 0.9, "shear": 12}],
    ids=str,
)  # fmt: skip
def test_affine_maps(shape: Any, border: str, fields: dict[str, float]) -> None:
    pixels = images(*shape)
    fixed = {name: (value, value) for name, value in fields.items()}
    made = augmented(pixels, border=border, **fixed)
    expected = batch(pixels, forward(**fields), border=border)
    np.testing.assert_allclose(made, expected, atol=0.02)


def test_quarter_turns_are_numpys() -> None:
    """Counter-clockwise, exactly but for the rounding of angles."""
    pixels = images(3, 9, 9)
    for quarters in range(-4, 5):
        made = augmented(pixels, rotation=(90 * quarters, 90 * quarters))
        np.testing.assert_allclose(made, np.rot90(pixels, quarters, (2, 3)), atol=2e-3)


@each_shape
def test_whole_translations_are_shifts(shape: Any) -> None:
    pixels = images(*shape)
    made = augmented(pixels, translation=(3, 3), fill=7)
    expected = np.full(pixels.shape, 7.0)
    expected[:, :, 3:, 3:] = pixels[:, :, :-3, :-3]
    np.testing.assert_array_equal(made, expected)


@each_shape
def test_flips_are_exact(shape: Any) -> None:
    pixels = images(*shape)
    up, left = np.array([[0.1], [0.6], [0.2], [0.99]]), np.array([[0.4], [0.3], [0.5], [0.7]])
    made = augmented(pixels, {"flip_vertical": up, "mirror": left}, flip_vertical=True, mirror=True)
    expected = [
        image[:, :: 1 - 2 * int(u < 0.5), :: 1 - 2 * int(v < 0.5)]
        for image, u, v in zip(pixels, up[:, 0], left[:, 0], strict=True)
    ]
    np.testing.assert_array_equal(made, expected)


@each_shape
def test_all_at_once(shape: Any) -> None:
    """Zoom, stretch, shear, rotation, translation, then pad and crop, then flips, in one go."""
    pixels = images(*shape, n=12)
    kinds = {"rotation": 1, "shear": 1, "zoom": 1, "stretch": 1, "translation": 2, "crop": 2,
             "mirror": 1, "flip_vertical": 1}  # fmt: skip
    lots = {kind: RNG.random((12, n)).astype(np.float32) for kind, n in kinds.items()}
    crop = min(shape[1:]) - 1
    made = augmented(
        pixels, lots, rotation=(0, 360), shear=20, zoom=1.6, stretch=1.3, translation=5,
        pad=2, crop_size=crop, mirror=True, flip_vertical=True, fill=100,
    )  # fmt: skip
    for i, image in enumerate(pixels):
        u = {kind: float(drawn[i, 0]) for kind, drawn in lots.items()}
        matrix = forward(360 * u["rotation"], 40 * u["shear"] - 20,
                         1.6 ** (2 * u["zoom"] - 1), 1.3 ** (2 * u["stretch"] - 1))  # fmt: skip
        down, right = 10 * lots["translation"][i] - 5
        room = [n + 4 - crop for n in shape[1:]]
        top, start = (int(v * (n + 1)) for v, n in zip(lots["crop"][i], room, strict=True))
        shift = (right - start + room[1] / 2, down - top + room[0] / 2)
        expected = moved(image, matrix, shift, (crop, crop), fill=100)
        rows = slice(None, None, -1 if u["flip_vertical"] < 0.5 else 1)
        columns = slice(None, None, -1 if u["mirror"] < 0.5 else 1)
        np.testing.assert_allclose(made[i], expected[:, rows, columns], atol=0.05)


def test_a_value_for_each_channel_outside() -> None:
    pixels = images(3, 8, 8)
    made = augmented(pixels, translation=(20, 20), fill=(10, 20, 30), pad=10)
    assert (made[:, :, 0, 0] == [10, 20, 30]).all()
    cut = augmented(pixels, {"crop": np.zeros((4, 2))}, pad=2, crop_size=9, fill=(10, 20, 30))
    expected = [np.pad(pixels[:, c], ((0, 0), (2, 0), (2, 0)), constant_values=v)[:, :9, :9]
                for c, v in enumerate((10, 20, 30))]  # fmt: skip
    np.testing.assert_array_equal(cut, np.stack(expected, 1)[:, :, :9, :9])


@pytest.mark.parametrize("border", ["EDGE", "REFLECT"])
def test_a_pad_has_the_border(border: str) -> None:
    pixels = images(2, 6, 7)
    made = augmented(pixels, pad=3, border=border)
    ends = ((0, 0), (0, 0), (3, 3), (3, 3))
    np.testing.assert_array_equal(made, np.pad(pixels, ends, mode=MODES[border]))


@pytest.mark.parametrize("bend", [0.3, -0.15])
def test_the_lens(bend: float) -> None:
    """A smooth image, whose values between cells are known, where the lens says."""
    rows, columns = np.mgrid[:21, :31].astype(np.float64)
    pixels = np.stack([3 * rows + 2 * columns, 100 - rows])[np.newaxis].astype(np.float32)
    made = augmented(pixels, distortion=(bend, bend), border="EDGE")
    down, right = rows - 10, columns - 15
    factor = 1 + bend * (down**2 + right**2) / 10.5**2
    down, right = 10 + down * factor, 15 + right * factor
    inside = (down >= 0) & (down <= 20) & (right >= 0) & (right <= 30)
    assert inside.mean() > 0.5
    expected = np.stack([3 * down + 2 * right, 100 - down])
    np.testing.assert_allclose(made[0][:, inside], expected[:, inside], atol=1e-3)


def test_a_resize_before_the_crop() -> None:
    """He et al.: the shorter side is drawn, evenly from whole numbers, both ends included."""
    pixels = images(3, 20, 31)
    u = np.array([[0.0], [0.999999], [0.5], [0.26]])
    corners = RNG.random((4, 2))
    made = augmented(pixels, {"resize": u, "crop": corners}, resize=(16, 25), crop_size=16)
    for i, shorter in enumerate((16, 25, 21, 18)):
        extent = np.array([shorter, 31 * shorter // 20])
        scale = extent / [20, 31]
        first = np.floor(corners[i] * (extent - 15))
        row, column = (extent - 16) / 2 - first
        expected = moved(pixels[i], np.diag(scale[::-1]), (column, row), (16, 16), border="EDGE")
        np.testing.assert_allclose(made[i], expected, atol=0.02)


@pytest.mark.parametrize("shorter", [(12, 30), (9, 9), (33, 33)])
def test_tests_take_the_middle_of_the_middle(shorter: tuple[int, int]) -> None:
    pixels, mean = images(3, 20, 31), (RNG.random((3, 20, 31)) * 100).astype(np.float32)
    made = augmented(pixels, resize=shorter, crop_size=9, training=False, rotation=30, mean=mean)
    side = sum(shorter) // 2
    extent = np.array([side, 31 * side // 20])
    offset = [(n - 9) / 2 - (n - 9) // 2 for n in extent]
    matrix = np.diag((extent / [20, 31])[::-1])
    expected = batch(pixels - mean, matrix, (offset[1], offset[0]), (9, 9), border="EDGE")
    np.testing.assert_allclose(made, expected, atol=0.02)


def test_the_mean_image_moves_along() -> None:
    pixels, mean = images(3, 8, 8), (RNG.random((3, 8, 8)) * 100).astype(np.float32)
    made = augmented(pixels, mean=mean, mean_file="m.npy", rotation=(33, 33), scale=0.5)
    np.testing.assert_allclose(made, 0.5 * batch(pixels - mean, forward(33)), atol=0.02)


def test_tests_and_compiled_models_draw_nothing() -> None:
    pixels = images(3, 8, 8)
    all_of_it: dict[str, Any] = {
        "preset": "PLANKTON", "distortion": 0.1, "brightness": 0.5, "hue": 0.1, "cutout": 4,
        "contrast": 0.5, "saturation": 0.5,
    }  # fmt: skip
    for drawn in (True, False):
        made = augmented(pixels, training=False, drawn=drawn, **all_of_it)
        np.testing.assert_array_equal(made, pixels)


def test_label_images_move_as_images_do() -> None:
    """Labels that are the image's own values are those of the nearest cell."""
    pixels = np.arange(4 * 11 * 13).reshape(4, 1, 11, 13)
    u = {"rotation": RNG.random((4, 1)), "crop": RNG.random((4, 2)), "mirror": RNG.random((4, 1))}
    fields: dict[str, Any] = {"rotation": 180, "crop_size": 9, "mirror": True, "pad": 1}
    made, labels = augmented(
        (pixels >= 0).astype(np.float32), u, labels=pixels, outside=-1, **fields
    )
    assert labels.dtype == np.int64
    assert set(np.unique(labels)) <= {-1, *pixels.ravel()}
    np.testing.assert_array_equal((labels >= 0)[made == 1], True)
    np.testing.assert_array_equal((labels < 0)[made == 0], True)
    rows, columns = (
        augmented(
            np.broadcast_to(axis, pixels.shape).astype(np.float32), u, border="EDGE", **fields
        )
        for axis in (np.arange(11)[:, np.newaxis], np.arange(13))
    )
    inside = made == 1
    place = labels % (11 * 13)
    assert np.abs(place // 13 - rows)[inside].max() <= 0.5 + 1e-4
    assert np.abs(place % 13 - columns)[inside].max() <= 0.5 + 1e-4


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fields", [{"mirror": True}, {"pad": 2}, {"crop_size": 6}], ids=str)
@pytest.mark.parametrize("axes", [(1,), ()], ids=str)
def test_label_images_are_cut_as_images_are(training: bool, fields: Any, axes: Any) -> None:
    pixels = RNG.integers(0, 9, (4, 1, 8, 10))
    lots = {}
    if "mirror" in fields:
        lots["mirror"] = RNG.random((4, 1))
    if "crop_size" in fields and training:
        lots["crop"] = RNG.random((4, 2))
    labels = pixels.reshape(4, *axes, 8, 10)
    made, found = augmented(
        pixels.astype(np.uint8), lots, labels=labels, training=training, **fields
    )
    np.testing.assert_array_equal(found.reshape(made.shape), made)


def test_label_images_of_a_resized_test() -> None:
    labels = np.arange(8 * 6).reshape(1, 1, 8, 6)
    made, found = augmented(
        labels.astype(np.uint8), labels=labels, resize=12, crop_size=10, training=False
    )
    assert found.shape == made.shape == (1, 1, 10, 10)
    np.testing.assert_array_equal(
        found[0, 0], np.repeat(np.repeat(labels[0, 0], 2, 0), 2, 1)[3:13, 1:11]
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"translation": 8}, "translation by up to 8 pixels leaves nothing of images of 8x9"),
     ({"cutout": 9}, "cutout 9 is larger than the images of `data`, 8x9"),
     ({"fill": (1, 2)}, "fill has 2 values, but data has 3 channels"),
     ({"pad": 8, "border": "REFLECT"}, "border REFLECT takes a pad below the images' size, not 8")],
    ids=str,
)  # fmt: skip
def test_what_leaves_no_image_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        augmented(images(3, 8, 9), **fields)


@pytest.mark.parametrize("fields", [{"rotation": 9}, {"cutout": 2}, {"zoom": 2}], ids=str)
@pytest.mark.parametrize("shape", [(6, 5), (6, 2, 5)], ids=str)
def test_only_images_are_moved(fields: dict[str, Any], shape: Any) -> None:
    with pytest.raises(UsageError, match="for images, and `data` is not"):
        augmented(np.zeros(shape, np.float32), **fields)
