"""Embed: every index becomes a learned vector."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.fields import Flag, Positive
from netspec.ir.filler import Filler
from netspec.ir.graph import Value
from netspec.ir.layer import (
    CaffeType,
    Context,
    Layer,
    ShapeError,
    Types,
    Values,
    Weight,
    batched,
    checked,
)
from netspec.ir.types import TensorType


class Embed(Layer):
    """y = W[x] + b: the rows of W that the indices x name (Caffe, `embed_layer.cpp`).

    An `fc` of one-hot vectors, without the products. The top has the axes of x, and num_output
    behind them.
    """

    keyword: ClassVar = "embed"
    caffe: ClassVar = CaffeType("Embed", "embed_param")
    labels: ClassVar = frozenset({0})
    example: ClassVar = """
        input "words" { shape: 12 }
        embed { input_dim: 1000  num_output: 32 }
    """

    num_output: Positive
    """Length of a vector."""
    input_dim: Positive
    """How many there are: an index is less."""
    bias_term: Flag = True
    """Whether a learned bias is added to every vector."""
    weight_filler: Filler = Filler()
    """How the vectors are initialised."""
    bias_filler: Filler = Filler()
    """How the bias is initialised."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = batched(bottoms)
        if x.dtype != "int64":
            raise ShapeError(f"takes indices, not {x}")
        top = TensorType((*x.shape, self.num_output))
        return checked(top)

    def weights(self, bottoms: Types) -> tuple[Weight, ...]:
        weight = Weight("weight", (self.input_dim, self.num_output), self.weight_filler)
        if not self.bias_term:
            return (weight,)
        return weight, Weight("bias", (self.num_output,), self.bias_filler)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), (weight, *bias), op = bottoms, weights, context.op
        y = op.Gather(weight, x, axis=0)
        return (op.Add(y, *bias) if bias else y,)
