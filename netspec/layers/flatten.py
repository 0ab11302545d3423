"""Flatten: consecutive axes become one."""

from __future__ import annotations

from math import prod
from typing import ClassVar

from netspec.ir.fields import Int
from netspec.ir.graph import Value
from netspec.ir.layer import (
    CaffeType,
    Context,
    Layer,
    ShapeError,
    Types,
    Values,
    axis_of,
    numbers,
    over_batch,
)
from netspec.ir.types import TensorType


class Flatten(Layer):
    """y = x with the axes from `axis` to `end_axis` made one (Caffe, `flatten_layer.cpp`)."""

    keyword: ClassVar = "flatten"
    caffe: ClassVar = CaffeType("Flatten", "flatten_param", "FLATTEN")
    counts_labels: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 16x5x5 }
        flatten
    """

    axis: Int = 1
    """The first axis that is merged; the batch is axis 0."""
    end_axis: Int = -1
    """The last axis that is merged."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        first, last = (
            axis_of(axis, x, first=0, field=field)
            for axis, field in ((self.axis, "axis"), (self.end_axis, "end_axis"))
        )
        if last < first:
            raise ShapeError(f"end_axis {last} lies before axis {first}", field="end_axis")
        merged = prod(x.shape[first : last + 1])
        return (x.with_shape(*x.shape[:first], merged, *x.shape[last + 1 :]),)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), op = bottoms, context.op
        (y,) = self.infer([x.type])
        # -1 takes the batch where it is merged with others: no constant holds its size.
        batch = 0 if y.batch == x.type.batch else -1
        return (op.Reshape(x, op.ints(batch, *y.sample)),)

    def lints(self, bottoms: Types) -> tuple[str, ...]:
        merged = over_batch(self.axis, bottoms[0])
        return ("axis 0 is the batch: it is merged with what follows",) if merged else ()
