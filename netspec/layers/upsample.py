"""Upsample: an image with more cells of the same sight."""

from __future__ import annotations

from typing import ClassVar, Literal

from netspec.ir.fields import Positive
from netspec.ir.graph import Value
from netspec.ir.layer import Context, Layer, ShapeError, Types, Values, checked, numbers
from netspec.ir.types import TensorType, size
from netspec.ir.window import Window


class Upsample(Layer):
    """`scale` times as many cells on each spatial axis.

    NEAREST: y[i] = x[floor(i / scale)]. BILINEAR: y[i] = x at (i + 1/2) / scale - 1/2, between the
    two nearest cells and no further than the last ones, axis by axis; PyTorch's
    `align_corners=False`.
    """

    keyword: ClassVar = "upsample"
    example: ClassVar = """
        input "data" { shape: 8x16x16 }
        upsample { scale: 2  mode: BILINEAR }
        conv { num_output: 4  kernel_size: 3  pad: 1 }
    """

    scale: Positive
    """Cells of the top for each cell of the bottom, on every spatial axis."""
    mode: Literal["NEAREST", "BILINEAR"] = "NEAREST"
    """Whether cells are repeated, or lie between their neighbours."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        if len(x.spatial) not in (1, 2):
            raise ShapeError(
                f"takes channels x height x width, or channels x length, not {size(x.sample)}"
            )
        return checked(x.with_shape(x.batch, x.channels, *(n * self.scale for n in x.spatial)))

    def window(self, bottoms: Types) -> Window:
        (x,) = bottoms
        scale, odd = self.scale, self.scale % 2
        reach, pad = (scale, 0) if self.mode == "NEAREST" else (2 * scale - odd, (scale - odd) // 2)
        kernel, stride, padding, ones = ((n,) * len(x.spatial) for n in (reach, scale, pad, 1))
        return Window(kernel, stride, padding, ones, transposed=True)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        import numpy as np

        (x,), op = bottoms, context.op
        if self.scale == 1:
            return (op.Identity(x),)
        # A length is an image of one row: runtimes interpolate images.
        flat = self.mode == "BILINEAR" and len(x.type.spatial) == 1
        if flat:
            x = op.Unsqueeze(x, op.ints(2))
        rows = () if len(x.type.spatial) == 1 else (1 if flat else self.scale,)
        scales = op.constant(np.array([1, 1, *rows, self.scale], np.float32))
        if self.mode == "NEAREST":
            y = op.Resize(
                x, None, scales, mode="nearest", nearest_mode="floor",
                coordinate_transformation_mode="asymmetric",
            )  # fmt: skip
        else:
            y = op.Resize(
                x, None, scales, mode="linear", coordinate_transformation_mode="half_pixel"
            )
        return (op.Squeeze(y, op.ints(2)) if flat else y,)
