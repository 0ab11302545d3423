"""Silence: blobs that nobody wants."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.fields import MAX_INT
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, Role, Types, Values
from netspec.ir.types import TensorType


class Silence(Layer):
    """Reads its bottoms and makes nothing: they are no outputs (Caffe, `silence_layer.cpp`).

    The flow stays where it was.
    """

    keyword: ClassVar = "silence"
    caffe: ClassVar = CaffeType("Silence", v1="SILENCE")
    role: ClassVar = Role.SINK
    bottoms: ClassVar = range(1, MAX_INT)
    tops: ClassVar = range(1)
    example: ClassVar = """
        input "data" { shape: 4x8x8 }
        slice { top: "kept"  top: "dropped"  slice_point: 3 }
        silence { bottom: "dropped" }
        relu { bottom: "kept" }
    """

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        return ()

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        return ()
