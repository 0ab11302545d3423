"""Interp: an image drawn anew with more or fewer cells, the outermost staying where they are."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BeforeValidator

from netspec.ir.fields import Positive, Says, whole
from netspec.ir.graph import Value
from netspec.ir.layer import (
    CaffeType,
    Context,
    Layer,
    ShapeError,
    Types,
    Values,
    checked,
    image,
    numbers,
)
from netspec.ir.types import Shape, TensorType, size
from netspec.ir.window import Window

_Crop = Annotated[int, BeforeValidator(whole(maximum=2**20)), Says("whole number up to 0")]


class Interp(Layer):
    """y[i] = x at i · (n - 1) / (m - 1), between the two nearest of n cells, axis by axis.

    m comes from the factors, from `height` and `width`, or from a second bottom of that size
    (DeepLab, Chen et al. 2015, arXiv:1412.7062; `interp_layer.cpp` of its fork of Caffe); PyTorch
    calls this `align_corners=True`.
    """

    keyword: ClassVar = "interp"
    caffe: ClassVar = CaffeType("Interp", "interp_param")
    bottoms: ClassVar = range(1, 3)
    example: ClassVar = """
        input "data" { shape: 3x33x33 }
        conv { num_output: 8  kernel_size: 3  stride: 2  pad: 1 }
        interp { zoom_factor: 2 }
    """

    height: Positive | None = None
    """Rows of the top, with `width`."""
    width: Positive | None = None
    """Columns of the top, with `height`."""
    zoom_factor: Positive | None = None
    """m = (n - 1) · zoom_factor + 1."""
    shrink_factor: Positive | None = None
    """m = floor((n - 1) / shrink_factor) + 1, before a zoom."""
    pad_beg: _Crop = 0
    """Minus the rows and columns that are left out at the top and at the left."""
    pad_end: _Crop = 0
    """Minus the rows and columns that are left out at the bottom and at the right."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        x, *like = numbers(bottoms)
        image([x])
        self._check_one_size(bool(like))
        if like:
            image(like)
        extent = self._kept(x)
        if min(extent) < 1:
            raise ShapeError(f"nothing of {size(x.spatial)} is kept", field="pad_beg")
        return checked(x.with_shape(x.batch, x.channels, *self._extent(extent, bottoms)))

    def _check_one_size(self, like: bool) -> None:
        sides = (self.height is not None, self.width is not None)
        if any(sides) and not all(sides):
            raise ShapeError("height and width go together", field=("width", "height")[sides[0]])
        for field in ("pad_beg", "pad_end"):
            if getattr(self, field) > 0:
                raise ShapeError(f"{field} crops: it must be 0 or less", field=field)
        factors = self.zoom_factor is not None or self.shrink_factor is not None
        if any(sides) + factors + like != 1:
            raise ShapeError(
                "takes its size from zoom_factor and shrink_factor, from height and width, or from "
                "a second bottom: from one of them"
            )

    def _kept(self, x: TensorType) -> Shape:
        return tuple(n + self.pad_beg + self.pad_end for n in x.spatial)

    def _extent(self, kept: Shape, bottoms: Types) -> Shape:
        """Rows and columns of the top."""
        if self.height is not None and self.width is not None:
            return self.height, self.width
        if len(bottoms) == 2:
            return bottoms[1].spatial
        shrunk = ((n - 1) // (self.shrink_factor or 1) + 1 for n in kept)
        return tuple((n - 1) * (self.zoom_factor or 1) + 1 for n in shrunk)

    def window(self, bottoms: Types) -> Window | None:
        """Of a whole factor; else cells lie between others in ever new ways."""
        if self.pad_beg or self.pad_end:
            return None
        kept = bottoms[0].spatial
        zooms = {(m - 1) / (n - 1) for n, m in zip(kept, self._extent(kept, bottoms), strict=True)
                 if n > 1}  # fmt: skip
        if len(zooms) != 1 or not min(zooms).is_integer() or min(zooms) < 1:
            return None
        zoom = int(min(zooms))
        reach, stride, pad, ones = ((n,) * 2 for n in (2 * zoom - 1, zoom, zoom - 1, 1))
        return Window(reach, stride, pad, ones, transposed=True)

    def traceable(self, bottoms: Types) -> bool:
        return self.window(bottoms) is not None

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        x, op = bottoms[0], context.op
        types = [bottom.type for bottom in bottoms]
        if self.pad_beg or self.pad_end:
            ends = (n + self.pad_end for n in x.type.spatial)
            x = op.Slice(x, op.ints(*(-self.pad_beg,) * 2), op.ints(*ends), op.ints(2, 3))
        extent = self._extent(x.type.spatial, types)
        if extent == x.type.spatial:
            return (op.Identity(x),)
        resized = op.Resize(
            x, None, None, op.ints(*extent), axes=(2, 3),
            mode="linear", coordinate_transformation_mode="align_corners",
        )  # fmt: skip
        return (resized,)
