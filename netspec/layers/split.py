"""Split: a blob under several names."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import PrivateAttr

from netspec.ir.fields import MAX_INT
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, Types, Values
from netspec.ir.types import TensorType


class Split(Layer):
    """Each y = x (Caffe, `split_layer.cpp`).

    A blob may be read as often as wanted without it; its copies can be overwritten one by one.
    """

    keyword: ClassVar = "split"
    caffe: ClassVar = CaffeType("Split", v1="SPLIT")
    tops: ClassVar = range(1, MAX_INT)
    example: ClassVar = """
        input "data" { shape: 3x32x32 }
        split { top: "a"  top: "b" }
        relu { bottom: "a"  top: "a" }
        eltwise { bottom: "a"  bottom: "b" }
    """
    _count: int = PrivateAttr(default=1)

    def with_tops(self, count: int) -> Self:
        named = self.model_copy()
        named._count = count
        return named

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        return tuple(bottoms) * self._count

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,) = bottoms
        return tuple(context.op.Identity(x) for _ in range(self._count))
