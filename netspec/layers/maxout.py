"""Maxout: of every few channels the largest is left."""

from __future__ import annotations

from math import prod
from typing import ClassVar

from netspec.ir.fields import Positive
from netspec.ir.graph import Value
from netspec.ir.layer import Context, Layer, ShapeError, Types, Values, numbers
from netspec.ir.types import TensorType


class Maxout(Layer):
    """y[i] = max of x[i · pieces + j], j from 0 to pieces - 1, over channels.

    Behind a layer of weights each channel is the largest of `pieces` linear functions (Goodfellow
    et al. 2013, arXiv:1302.4389).
    """

    keyword: ClassVar = "maxout"
    example: ClassVar = """
        input "data" { shape: 20 }
        fc { num_output: 32 }
        maxout { pieces: 2 }
    """

    pieces: Positive = 2
    """How many neighbouring channels become one."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        if len(x.shape) < 2:
            raise ShapeError("takes channels, not one number per sample")
        if x.channels % self.pieces:
            raise ShapeError(
                f"{self.pieces} pieces do not divide {x.channels} channels", field="pieces"
            )
        return (x.with_shape(x.batch, x.channels // self.pieces, *x.spatial),)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        """As a pool over channels x cells, which are a plane."""
        (x,), op = bottoms, context.op
        window = (self.pieces, 1)
        plane = op.Reshape(x, op.ints(0, 1, x.type.channels, prod(x.type.spatial)))
        # The gradient needs to know which channel won; where there is none, `simplify` drops it.
        y, _ = op.MaxPool(plane, outputs=2, kernel_shape=window, strides=window)
        return (op.Reshape(y, op.ints(0, x.type.channels // self.pieces, *x.type.spatial)),)
