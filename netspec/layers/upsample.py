"""Upsample: an image with more cells of the same sight."""

from __future__ import annotations

from typing import ClassVar, Literal

from netspec.ir.fields import Flag, Positive
from netspec.ir.graph import Ops, Value
from netspec.ir.layer import CaffeType, Context, Layer, ShapeError, Types, Values, checked, numbers
from netspec.ir.masks import unpooled
from netspec.ir.types import Shape, TensorType, size
from netspec.ir.window import Window

_OF_MASKS = ("scale_h", "scale_w", "pad_out_h", "pad_out_w", "upsample_h", "upsample_w")


class Upsample(Layer):
    """`scale` times as many cells on each spatial axis.

    NEAREST: y[i] = x[floor(i / scale)] (YOLOv3, Redmon & Farhadi 2018, arXiv:1804.02767).
    BILINEAR: y[i] = x at (i + 1/2) / scale - 1/2, between the two nearest cells and no further than
    the last ones, axis by axis; PyTorch's `align_corners=False`. With a mask, the second bottom,
    y[mask[i]] = x[i] and 0 elsewhere: what a MAX pool took goes back to where it was (SegNet,
    Badrinarayanan et al. 2015, arXiv:1511.00561). Sources: `upsample_layer.cpp` in forks of Caffe.
    """

    keyword: ClassVar = "upsample"
    caffe: ClassVar = CaffeType("Upsample", "upsample_param")
    bottoms: ClassVar = range(1, 3)
    example: ClassVar = """
        input "data" { shape: 8x16x16 }
        pool { top: "small"  top: "mask"  kernel_size: 2  stride: 2 }
        upsample { bottom: "small"  bottom: "mask" }
        upsample { scale: 2  mode: BILINEAR }
    """

    scale: Positive | None = None
    """Cells of the top for each cell of the bottom, on every spatial axis; with a mask, 2."""
    mode: Literal["NEAREST", "BILINEAR"] = "NEAREST"
    """Whether cells are repeated, or lie between their neighbours."""
    scale_h: Positive | None = None
    """Rows of the top for each of the bottom, with `scale_w` and a mask."""
    scale_w: Positive | None = None
    """Columns of the top for each of the bottom, with `scale_h` and a mask."""
    pad_out_h: Flag = False
    """Whether the top has a row less, its last; with a mask and a scale of 2."""
    pad_out_w: Flag = False
    """Whether the top has a column less, its last; with a mask and a scale of 2."""
    upsample_h: Positive | None = None
    """Rows of the top, with `upsample_w` and a mask."""
    upsample_w: Positive | None = None
    """Columns of the top, with `upsample_h` and a mask."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        x, *mask = numbers(bottoms)
        if len(x.spatial) not in ((2,) if mask else (1, 2)):
            length = "" if mask else ", or channels x length"
            raise ShapeError(f"takes channels x height x width{length}, not {size(x.sample)}")
        if mask:
            self._check_mask(x, mask[0])
            return checked(x.with_shape(x.batch, x.channels, *self._unpooled(x)))
        for field in _OF_MASKS:
            if getattr(self, field):
                raise ShapeError(f"{field} goes with a mask, a second bottom", field=field)
        if self.scale is None:
            raise ShapeError("needs `scale`")
        return checked(x.with_shape(x.batch, x.channels, *(n * self.scale for n in x.spatial)))

    def _check_mask(self, x: TensorType, mask: TensorType) -> None:
        if mask.shape != x.shape:
            raise ShapeError(f"a mask for {size(mask.shape)} cells, but these are {size(x.shape)}")
        for a, b in (("scale_h", "scale_w"), ("upsample_h", "upsample_w")):
            given = [field for field in (a, b) if getattr(self, field) is not None]
            if len(given) == 1:
                raise ShapeError(f"{a} and {b} go together", field=given[0])
        for field, scale in zip(("pad_out_h", "pad_out_w"), self._scales(), strict=True):
            if getattr(self, field) and scale != 2:
                raise ShapeError(f"{field} goes with a scale of 2, not {scale}", field=field)
        if self.mode == "BILINEAR":
            raise ShapeError("a mask leaves nothing to interpolate", field="mode")

    def _scales(self) -> Shape:
        """Rows and columns of the top for each of the bottom."""
        scale = 2 if self.scale is None else self.scale
        return self.scale_h or scale, self.scale_w or scale

    def _unpooled(self, x: TensorType) -> Shape:
        """Rows and columns of the top."""
        if self.upsample_h and self.upsample_w:
            return self.upsample_h, self.upsample_w
        less = (self.pad_out_h, self.pad_out_w)
        return tuple(n * s - p for n, s, p in zip(x.spatial, self._scales(), less, strict=True))

    def window(self, bottoms: Types) -> Window | None:
        x, *mask = bottoms
        if mask:
            reach = self._scales()
            zeros, ones = ((n,) * len(reach) for n in (0, 1))
            return Window(reach, reach, zeros, ones, transposed=True)
        assert self.scale is not None, "infer has seen it"
        scale, odd = self.scale, self.scale % 2
        width, pad = (scale, 0) if self.mode == "NEAREST" else (2 * scale - odd, (scale - odd) // 2)
        kernel, stride, padding, ones = ((n,) * len(x.spatial) for n in (width, scale, pad, 1))
        return Window(kernel, stride, padding, ones, transposed=True)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x, *mask), op = bottoms, context.op
        if mask:
            return (unpooled(op, x, mask[0], self._unpooled(x.type)),)
        if self.scale == 1:
            return (op.Identity(x),)
        # A length is an image of one row: runtimes interpolate images.
        flat = self.mode == "BILINEAR" and len(x.type.spatial) == 1
        y = self._resized(op, op.Unsqueeze(x, op.ints(2)) if flat else x, flat=flat)
        return (op.Squeeze(y, op.ints(2)) if flat else y,)

    def _resized(self, op: Ops, x: Value, *, flat: bool) -> Value:
        import numpy as np

        assert self.scale is not None, "infer has seen it"
        rows = () if len(x.type.spatial) == 1 else (1 if flat else self.scale,)
        scales = op.constant(np.array([1, 1, *rows, self.scale], np.float32))
        y: Value
        if self.mode == "NEAREST":
            y = op.Resize(
                x, None, scales, mode="nearest", nearest_mode="floor",
                coordinate_transformation_mode="asymmetric",
            )  # fmt: skip
        else:
            y = op.Resize(
                x, None, scales, mode="linear", coordinate_transformation_mode="half_pixel"
            )
        return y
