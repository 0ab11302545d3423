"""Filter: the samples that a selector picks."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.fields import MAX_INT
from netspec.ir.layer import CaffeType, Layer, ShapeError, Types, batched
from netspec.ir.types import TensorType, occupied, size


class Filter(Layer):
    """y[k] = x[k], k over the samples whose selector, the last bottom, is not 0.

    How many there are depends on the data: it is counted as if all were picked, and never run
    (Caffe, `filter_layer.cpp`).
    """

    keyword: ClassVar = "filter"
    caffe: ClassVar = CaffeType("Filter")
    bottoms: ClassVar = range(2, MAX_INT)
    tops: ClassVar = range(1, MAX_INT)
    example: ClassVar = """
        input "data" { shape: 3x8x8 }
        input "wanted" { shape: 1 }
        filter { bottom: "data"  bottom: "wanted" }
    """

    @property
    def obstacle(self) -> str:
        return "keeps a number of samples that depends on the data"

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        *data, selector = batched(bottoms)
        if occupied(selector.sample):
            raise ShapeError(f"the selector has one value per sample, not {size(selector.sample)}")
        for x in data:
            if x.batch != selector.batch:
                raise ShapeError(f"{x.batch} samples, but a selector for {selector.batch}")
        return tuple(data)
