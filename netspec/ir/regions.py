"""What layers over regions of images share: an image, and five numbers for each region."""

from __future__ import annotations

from netspec.ir.layer import ShapeError, checked, image, numbers
from netspec.ir.types import TensorType, occupied, size


def regions(x: TensorType, rois: TensorType, *sample: int) -> tuple[TensorType, ...]:
    """The top with `sample` for each of `rois`; a ShapeError unless these are regions of `x`."""
    image([x])
    numbers([rois])
    if occupied(rois.shape[1:]) != (5,):
        raise ShapeError(
            f"regions are [image, x1, y1, x2, y2], five numbers each, not {size(rois.shape[1:])}"
        )
    return checked(x.with_shape(rois.batch, *sample))
