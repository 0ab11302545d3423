"""Arrays as pictures in a page: PNG, or JPEG where that is smaller, in the address itself."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SMALL = 48
"""Pixels of a side up to which a picture is kept as it is."""

Reach: TypeAlias = tuple[float, float]
"""What is shown black, and what white."""

STYLE = """
.raster { image-rendering: pixelated; vertical-align: top; background: #fff;
  max-width: 100%; height: auto; }
"""


def drawable(shape: tuple[int, ...]) -> bool:
    """Whether an array C x H x W is a picture: grey or of three colours."""
    return len(shape) == 3 and shape[0] in (1, 3) and min(shape) > 0


def reach(values: NDArray[Any]) -> Reach:
    """All that bytes can be, or else from the least of the values to the most."""
    if values.dtype == np.uint8:
        return 0.0, 255.0
    numbers = _finite(values)
    return float(numbers.min()), float(numbers.max())


def to_bytes(values: NDArray[Any], over: Reach | None = None) -> NDArray[np.uint8]:
    """Values as bytes, those at the ends of `over` black and white, by themselves of their `reach`.

    Beyond it they are black and white, too; what is not finite counts as 0.
    """
    low, high = reach(values) if over is None else over
    shares = (_finite(values) - low) / ((high - low) or 1)
    return np.asarray(255 * shares.clip(0, 1) + 0.5, np.uint8)


def _finite(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)


def raster(pixels: NDArray[np.uint8], *, side: int, bgr: bool = False, exact: bool = False) -> str:
    """An `img` of bytes C x H x W whose longer side is shown as about `side` pixels.

    Unless it is to be `exact`, a large picture is stored smaller, and as JPEG.
    """
    assert drawable(pixels.shape)
    if bgr:
        pixels = pixels[::-1]
    grey = pixels.shape[0] == 1
    image = Image.fromarray(np.ascontiguousarray(pixels[0] if grey else pixels.transpose(1, 2, 0)))
    longest = max(image.size)
    scale = max(1, side // longest) if longest <= side else side / longest
    width, height = (max(1, round(extent * scale)) for extent in image.size)
    exact = exact or longest <= _SMALL
    if not exact:
        image.thumbnail((2 * side, 2 * side))  # sharp on screens of twice as many pixels
    file = BytesIO()
    form = "PNG" if exact else "JPEG"
    image.save(file, form, optimize=True, **({} if exact else {"quality": 82}))
    data = b64encode(file.getvalue()).decode()
    return (
        f'<img class="raster" alt="" width="{width}" height="{height}" '
        f'src="data:image/{form.lower()};base64,{data}">'
    )


def tiled(tiles: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Tiles N x C x H x W as one picture, a white pixel between them."""
    count, channels, height, width = tiles.shape
    rows = -(-count // columns)
    sheet = np.full((channels, rows * (height + 1) - 1, columns * (width + 1) - 1), 255, np.uint8)
    for at, tile in enumerate(tiles):
        y, x = at // columns * (height + 1), at % columns * (width + 1)
        sheet[:, y : y + height, x : x + width] = tile
    return sheet
