"""Axpy: a bottom is multiplied channel by channel, and another added."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, ShapeError, Types, Values, batched, numbers
from netspec.ir.phrases import reshape_samples
from netspec.ir.types import TensorType, occupied, size


class Axpy(Layer):
    """y = a · x + b, a one number for each sample and channel, x and b of one shape.

    The end of a block of SENet, whose gate is a, in one layer (Hu et al. 2018, arXiv:1709.01507;
    `axpy_layer.cpp` of its fork of Caffe).
    """

    keyword: ClassVar = "axpy"
    caffe: ClassVar = CaffeType("Axpy")
    bottoms: ClassVar = range(3, 4)
    example: ClassVar = """
        input "data" { shape: 8x6x6 }
        conv "x" { num_output: 8  kernel_size: 3  pad: 1 }
        pool { pool: AVE  global_pooling: true }
        fc { num_output: 8 }
        sigmoid "gate"
        axpy { bottom: "gate"  bottom: "x"  bottom: "data" }
    """

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        a, x, b = batched(numbers(bottoms))
        if x.shape != b.shape:
            raise ShapeError(f"adds {size(b.shape)} to {size(x.shape)}: these must be of one shape")
        if len(x.shape) < 2:
            raise ShapeError("takes channels, not one number per sample")
        given = (a.batch, *occupied(a.sample))
        if given != (x.batch, *occupied((x.channels,))):
            raise ShapeError(
                f"the first bottom has one number for each channel of {size(x.shape)}, "
                f"not {size(a.shape)}"
            )
        return (x,)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (a, x, b), op = bottoms, context.op
        a = reshape_samples(op, a, x.type.channels, *(1 for _ in x.type.spatial))
        return (op.Add(op.Mul(a, x), b),)
