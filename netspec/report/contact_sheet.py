"""A contact sheet: some samples of each class, side by side, as one PNG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from netspec.report.raster import to_bytes

SIDE = 72
"""Pixels of the longer side of a sample."""
GAP, LINE, NAMES = 6, 18, 150
"""Pixels between samples, of a line of text, and for the names of the classes."""
_GROUND, _INK, _FAINT = (250, 250, 248), (40, 40, 40), (150, 150, 150)

Row: TypeAlias = tuple[str, str, Sequence[Callable[[], NDArray[Any] | None]]]
"""The name of a class, a word about it, and what gives its samples: C x H x W, None if unreadable.
"""


def contact_sheet(rows: Sequence[Row]) -> bytes:
    """The PNG file; samples keep their proportions, and small ones are magnified by pixels."""
    most = max(len(samples) for *_, samples in rows)
    cell = SIDE + GAP
    ground = Image.new("RGB", (GAP + NAMES + most * cell, GAP + len(rows) * cell), _GROUND)
    draw, font = ImageDraw.Draw(ground), ImageFont.load_default(13)
    for line, (name, word, samples) in enumerate(rows):
        top = GAP + line * cell
        for text, colour, down in ((_shortened(name, draw, font), _INK, 0), (word, _FAINT, LINE)):
            draw.text((GAP, top + SIDE // 2 - LINE + down), text, colour, font)
        for column, sample in enumerate(samples):
            left = GAP + NAMES + column * cell
            pixels = sample()
            if pixels is None:
                draw.rectangle((left, top, left + SIDE - 1, top + SIDE - 1), outline=_FAINT)
                draw.line((left, top, left + SIDE - 1, top + SIDE - 1), _FAINT)
                continue
            image = _shown(pixels)
            across, down = (SIDE - image.width) // 2, (SIDE - image.height) // 2
            ground.paste(image, (left + across, top + down))
    file = BytesIO()
    ground.save(file, "PNG")
    return file.getvalue()


def _shown(pixels: NDArray[Any]) -> Image.Image:
    """A sample as an image."""
    shades = to_bytes(pixels)
    planes = shades if len(shades) == 3 else shades[:1].repeat(3, axis=0)
    image = Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0)))
    scale = SIDE / max(image.size)
    extent = [max(1, round(side * scale)) for side in image.size]
    way = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    return image.resize((extent[0], extent[1]), way)


def _shortened(name: str, draw: ImageDraw.ImageDraw, font: Any) -> str:
    """As much of a name as there is room for."""
    while draw.textlength(name, font) > NAMES - 2 * GAP:
        name = f"{name.rstrip('…')[:-1]}…"
    return name
