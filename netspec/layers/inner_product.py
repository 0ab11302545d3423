"""Inner product: every output is a weighted sum of all inputs."""

from __future__ import annotations

from math import prod
from typing import ClassVar

from netspec.ir.fields import Flag, Int, Positive
from netspec.ir.filler import Filler
from netspec.ir.graph import Value
from netspec.ir.layer import (
    CaffeType,
    Context,
    Layer,
    Types,
    Values,
    Weight,
    axis_of,
    checked,
    numbers,
)
from netspec.ir.types import TensorType
from netspec.ir.window import Window


class InnerProduct(Layer):
    """y = W · x + b, where x holds all axes from `axis` on (Caffe, `inner_product_layer.cpp`).

    The axes before `axis` stay: of batch x channels x height x width remains batch x num_output.
    """

    keyword: ClassVar = "fc"
    caffe: ClassVar = CaffeType("InnerProduct", "inner_product_param", "INNER_PRODUCT")
    example: ClassVar = """
        input "data" { shape: 1x28x28 }
        fc "ip1" { num_output: 500 }
    """

    num_output: Positive
    """Number of outputs."""
    bias_term: Flag = True
    """Whether each output adds a learned bias."""
    axis: Int = 1
    """The first axis that is summed over, with all after it; the batch is axis 0."""
    transpose: Flag = False
    """Whether the weight is stored inputs x outputs."""
    weight_filler: Filler = Filler(type="msra")
    """How the weight is initialised."""
    bias_filler: Filler = Filler()
    """How the biases are initialised."""

    def _split(self, x: TensorType) -> tuple[tuple[int, ...], int]:
        """The axes that stay, batch included, and the number of inputs."""
        axis = axis_of(self.axis, x)
        return x.shape[:axis], prod(x.shape[axis:])

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        kept, _ = self._split(x)
        return checked(x.with_shape(*kept, self.num_output))

    def weights(self, bottoms: Types) -> tuple[Weight, ...]:
        (x,) = bottoms
        _, inputs = self._split(x)
        shape = (inputs, self.num_output) if self.transpose else (self.num_output, inputs)
        weight = Weight("weight", shape, self.weight_filler)
        if not self.bias_term:
            return (weight,)
        return weight, Weight("bias", (self.num_output,), self.bias_filler)

    def window(self, bottoms: Types) -> Window | None:
        (x,) = bottoms
        kept, _ = self._split(x)
        if len(x.shape) != 4 or len(kept) > 2:
            return None
        return Window(x.spatial, (1, 1), (0, 0), (1, 1))

    def macs(self, bottoms: Types) -> int:
        (x,), (y,) = bottoms, self.infer(bottoms)
        return y.numel * self._split(x)[1]

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), op = bottoms, context.op
        kept, inputs = self._split(x.type)
        if len(kept) > 1:
            # Every position of the axes that stay is a row of its own; -1 counts them.
            x = op.Reshape(x, op.ints(-1, inputs))
        elif len(x.type.shape) > 2:
            x = op.Reshape(x, op.ints(0, -1))
        y = op.Gemm(x, *weights, transB=int(not self.transpose))
        if len(kept) > 1:
            y = op.Reshape(y, op.ints(-1, *kept[1:], self.num_output))
        return (y,)
