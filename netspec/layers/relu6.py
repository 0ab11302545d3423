"""ReLU6: negative cells become zero, large ones six."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, Types, Values, numbers
from netspec.ir.phrases import relu6
from netspec.ir.types import TensorType


class ReLU6(Layer):
    """y = min(max(x, 0), 6) (Howard et al. 2017, arXiv:1704.04861; a type of Caffe's forks)."""

    keyword: ClassVar = "relu6"
    caffe: ClassVar = CaffeType("ReLU6")
    in_place: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 10 }
        relu6
    """

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        return (x,)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,) = bottoms
        return (relu6(context.op, x),)
