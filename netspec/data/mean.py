"""Mean images: `.binaryproto` of Caffe's compute_image_mean, or `.npy`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from netspec.blob import read_mean
from netspec.data.file import fault
from netspec.data.formats.npz import read_npy
from netspec.ir.types import Shape, size


def mean_image(path: Path, shape: Shape | None = None) -> NDArray[np.float32]:
    """Channels x height x width; DataError if it is none, or not that of images of `shape`."""
    image = read_npy(path, "mean") if path.suffix.lower() == ".npy" else read_mean(path)
    if image.ndim == 4 and len(image) == 1:
        image = image[0]
    if image.ndim != 3 or not image.size:
        raise fault(path, f"{size(image.shape)} is no image of channels x height x width")
    if not np.isfinite(image).all():
        raise fault(path, "a value is not a finite number")
    if shape is not None and image.shape != shape:
        raise fault(path, f"a mean of {size(image.shape)} for images of {size(shape)}")
    return np.ascontiguousarray(image, np.float32)
