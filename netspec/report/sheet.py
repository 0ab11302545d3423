"""A sheet of images: rows with a name each, the first image apart from those made of it."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

LEAST, MOST = 96, 320
"""Pixels that an image's longer side is shown with, at least and at most."""
GAP, NAME, APART = 6, 16, 18
"""Pixels between images, for a name below them, and behind the first of a row."""
_GROUND, _INK = (250, 250, 248), (40, 40, 40)

Row = tuple[str, Sequence[NDArray[np.uint8]]]
"""A name, and images: H x W grey, or H x W x 3."""


def sheet(heads: Sequence[str], rows: Sequence[Row]) -> bytes:
    """The PNG file of all rows, columns under their `heads`, small images magnified by pixels."""
    cell = _cell(image for _, images in rows for image in images)
    width, height = cell[0] + GAP, cell[1] + NAME + GAP
    ground = Image.new(
        "RGB", (GAP + len(heads) * width + APART, NAME + GAP + len(rows) * height), _GROUND
    )
    draw, font = ImageDraw.Draw(ground), ImageFont.load_default(11)
    for column, head in enumerate(heads):
        draw.text((_left(column, width), 3), head, _INK, font)
    for line, (name, images) in enumerate(rows):
        top = NAME + GAP + line * height
        for column, pixels in enumerate(images):
            ground.paste(_magnified(pixels), (_left(column, width), top))
        draw.text((GAP, top + cell[1] + 1), name, _INK, font)
    file = BytesIO()
    ground.save(file, "PNG")
    return file.getvalue()


def _left(column: int, width: int) -> int:
    return GAP + column * width + (APART if column else 0)


def _cell(images: Any) -> tuple[int, int]:
    """Width and height that hold every image as it is shown."""
    sizes = [_magnified(image).size for image in images]
    return max(w for w, _ in sizes), max(h for _, h in sizes)


def _magnified(pixels: NDArray[np.uint8]) -> Image.Image:
    """Each pixel as a square, so that small images can be seen; large ones shrink."""
    image = Image.fromarray(pixels).convert("RGB")
    longer = max(image.size)
    if longer > MOST:
        image.thumbnail((MOST, MOST))
        return image
    times = max(1, -(-LEAST // longer))
    return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
