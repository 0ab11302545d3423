"""Batch reindex: the samples in another order, some left out and some several times."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.graph import Value
from netspec.ir.layer import (
    CaffeType,
    Context,
    Layer,
    ShapeError,
    Types,
    Values,
    batched,
    checked,
    numbers,
)
from netspec.ir.types import TensorType, occupied, size


class BatchReindex(Layer):
    """y[i] = x[index[i]], of the bottoms x and index (Caffe, `batch_reindex_layer.cpp`)."""

    keyword: ClassVar = "batch_reindex"
    caffe: ClassVar = CaffeType("BatchReindex")
    bottoms: ClassVar = range(2, 3)
    labels: ClassVar = frozenset({1})
    example: ClassVar = """
        input "data" { shape: 3x8x8 }
        input "order" { shape: 1 }
        batch_reindex { bottom: "data"  bottom: "order" }
        fc { num_output: 2 }
    """

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        x, index = batched(bottoms)
        numbers([x])
        if index.dtype != "int64":
            raise ShapeError(f"the second bottom must hold indices, not {index}")
        if occupied(index.sample):
            raise ShapeError(f"takes one index for each sample of the top, not {size(index.shape)}")
        return checked(x.with_shape(index.batch, *x.sample))

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x, index), op = bottoms, context.op
        if index.type.sample:
            index = op.Reshape(index, op.ints(-1))
        return (op.Gather(x, index, axis=0),)
