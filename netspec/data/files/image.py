"""PNG and JPEG files as arrays of bytes, channels x height x width."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from netspec.data.file import fault, read_whole
from netspec.data.files.bilinear import resize
from netspec.data.files.png import check_png
from netspec.diagnostics import DataError
from netspec.ir.transform import ColourOrder
from netspec.ir.types import Shape, size
from netspec.ir.views import View
from netspec.wire import Buffer

SUFFIXES = (".png", ".jpg", ".jpeg")

MAX_PIXELS = 25_000_000
"""Pixels of an image; a file of 10 kB can declare a hundred times as many."""

MAX_BYTES = 256 << 20
"""Bytes of an image file."""

_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
"""Pillow's modes of eight bits or fewer: it clips the others instead of scaling them."""


@dataclass(frozen=True)
class Picture:
    """An image brought to an input's shape.

    `pixels` is uint8, C x H x W; `size` is the height x width of the file, and `resized` whether
    that differs from the input's.
    """

    pixels: NDArray[np.uint8]
    size: Shape
    resized: bool


def read_image(path: Path, shape: Shape) -> Picture:
    """Read an image for an input of C x H x W, 1 channel as grey and 3 as RGB.

    An image of another size is resized, both axes for themselves, by Pillow's BILINEAR (which
    averages when it shrinks). Transparent pixels are laid on black; a photograph's orientation tag
    is not followed. Raises DataError.
    """
    channels, *extent = image_shape(path, shape)
    return _picture(path, channels, lambda _: extent)


def read_scaled(path: Path, channels: int, view: View) -> Picture:
    """Read an image at the scale of a view, both axes alike; else as `read_image` does."""
    return _picture(path, channels, view.resized)


def _picture(path: Path, channels: int, extent_for: Callable[[Shape], Sequence[int]]) -> Picture:
    """An image brought to the height and width that `extent_for` gives for its own."""
    with strict():
        image = _parse(path, read_whole(path, MAX_BYTES))
        found = (image.height, image.width)
        image = _convert(path, image, channels)
        extent = tuple(extent_for(found))
        if extent[0] * extent[1] > MAX_PIXELS:
            text = f"image of {size(found)}, at {size(extent)} over {MAX_PIXELS:,} pixels"
            raise fault(path, text)
        return Picture(_pixels(_brought(image, extent)), found, found != extent)


def decode_bytes(
    name: Path | str, data: Buffer, shape: Shape, order: ColourOrder
) -> NDArray[np.uint8]:
    """The image in a file's bytes, of exactly the shape C x H x W; another size is a fault.

    `name` is what faults call it. Call it, and those below, within `strict`.
    """
    channels, height, width = shape
    image = _parse(name, data, (height, width))
    return _pixels(_convert(name, image, channels), order)


def decode_resized(
    name: Path | str, data: Buffer, shape: Shape, order: ColourOrder
) -> NDArray[np.uint8]:
    """An image of any size brought to C x H x W as Caffe does it."""
    channels, *extent = shape
    pixels = _pixels(_convert(name, _parse(name, data), channels), order)
    return resize(pixels, (extent[0], extent[1]))


def decode_scaled(
    name: Path | str, data: Buffer, shape: Shape, order: ColourOrder
) -> NDArray[np.uint8]:
    """An image of any size brought to C x H x W as `read_image` does it."""
    channels, *extent = shape
    image = _convert(name, _parse(name, data), channels)
    return _pixels(_brought(image, extent), order)


def _brought(image: Image.Image, extent: Sequence[int]) -> Image.Image:
    """An image of another height and width, unless they are its own."""
    height, width = extent
    if (image.height, image.width) == (height, width):
        return image
    return image.resize((width, height), Image.Resampling.BILINEAR)


def decode_natural(name: Path | str, data: Buffer, order: ColourOrder) -> NDArray[np.uint8]:
    """An image of any size as it is."""
    image = _parse(name, data)
    return _pixels(_convert(name, image, _channels(image)), order)


def natural_shape(name: Path | str, data: Buffer) -> Shape:
    """C x H x W of an image as it is: 1 channel if it is grey, else 3."""
    image = _parse(name, data)
    return (_channels(image), image.height, image.width)


def _channels(image: Image.Image) -> int:
    return 1 if image.mode in ("1", "L", "LA") else 3


def image_shape(path: Path, shape: Shape) -> Shape:
    """`shape`, checked to be one that images can feed."""
    if len(shape) != 3 or shape[0] not in (1, 3):
        text = f"images feed inputs of 1 or 3 channels x height x width, not {size(shape)}"
        raise fault(path, text)
    return shape


@contextmanager
def strict() -> Iterator[None]:
    """Turn Pillow's warnings into errors; for the whole process, so set it outside threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def strict_from_now_on() -> None:
    """What `strict` does, of Pillow's warnings alone and for the rest of the process.

    Threads that decode while others compute have no end at which to put it back.
    """
    warnings.filterwarnings("error", module=r"PIL\.")


def _parse(path: Path | str, data: Buffer, extent: Shape = ()) -> Image.Image:
    """The image in a file's bytes, its size known to be right and its pixels decoded."""
    try:
        image = Image.open(BytesIO(data), formats=("PNG", "JPEG"))
        _check_size(path, image, extent)
        if image.format == "PNG":
            check_png(path, bytes(data))
        if image.mode not in _MODES:
            raise fault(
                path, f"pixels are of mode {image.mode}; at most 8 bits per channel are read"
            )
        image.load()
    except DataError:
        raise
    except UnidentifiedImageError:
        raise fault(path, "neither PNG nor JPEG, or its header is damaged") from None
    except Exception as e:  # Pillow's parsers raise whatever they stumble over
        raise fault(path, f"damaged image: {e or type(e).__name__}") from None
    return image


def _check_size(path: Path | str, image: Image.Image, extent: Shape) -> None:
    found = (image.height, image.width)
    if extent and found != extent:
        text = f"image of {size(found)}, the input takes {size(extent)} (height x width)"
        raise fault(path, f"{text}; `new_height` and `new_width` of the data section resize images")
    if found[0] * found[1] > MAX_PIXELS:
        raise fault(path, f"image of {size(found)}, over {MAX_PIXELS:,} pixels")


def _convert(path: Path | str, image: Image.Image, channels: int) -> Image.Image:
    """Grey or RGB, on black where it is transparent."""
    try:
        if image.has_transparency_data:
            image = image.convert("RGBA")
            ground = Image.new("RGBA", image.size, (0, 0, 0, 255))
            image = Image.alpha_composite(ground, image)
        return image.convert("L" if channels == 1 else "RGB")
    except Exception as e:  # a damaged palette shows here
        raise fault(path, f"damaged image: {e or type(e).__name__}") from None


def _pixels(image: Image.Image, order: ColourOrder = "RGB") -> NDArray[np.uint8]:
    pixels = np.asarray(image, np.uint8)
    if pixels.ndim == 2:
        return pixels[np.newaxis]
    if order == "BGR":
        pixels = pixels[:, :, ::-1]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
