"""Input: a blob that is fed."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.fields import Extent
from netspec.ir.layer import CaffeType, Layer, Role, Types, checked
from netspec.ir.types import TensorType


class Input(Layer):
    """The array of this name in the data section, one sample per entry (Caffe, `input_layer.cpp`).

    The spec gives the shape of a sample; the batch comes from the run.
    """

    keyword: ClassVar = "input"
    caffe: ClassVar = CaffeType("Input", "input_param")
    role: ClassVar = Role.INPUT
    bottoms: ClassVar = range(1)
    example: ClassVar = """
        input "data" { shape: 3x224x224 }
        pool { pool: AVE  global_pooling: true }
    """

    shape: Extent
    """Channels x height x width of a sample, or its length; the batch is left out."""

    def blob(self, batch: int, dtype: str = "float32") -> TensorType:
        """The blob for a batch of `batch` samples; labels are `int64`."""
        (top,) = checked(TensorType((batch, *self.shape), dtype))
        return top

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        """The blob for one sample: how many there are, the bottoms cannot tell."""
        assert not bottoms
        return (self.blob(1),)
