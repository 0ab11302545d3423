"""Scale: a bottom is multiplied, by learned values or by another bottom."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BeforeValidator

from netspec.ir.fields import Flag, Int, whole
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
    axis_of,
    checked,
    numbers,
)
from netspec.ir.types import Shape, TensorType, size


class Scale(Layer):
    """y = x · a + b, a and b of the shape of some consecutive axes of x (Caffe, `scale_layer.cpp`).

    With one bottom a is learned, and so is b if `bias_term` is set; with two, the second is a: a
    value per sample and channel, as squeeze-and-excitation gates are, takes `axis: 0`.
    """

    keyword: ClassVar = "scale"
    caffe: ClassVar = CaffeType("Scale", "scale_param")
    bottoms: ClassVar = range(1, 3)
    in_place: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 3x32x32 }
        scale { bias_term: true }
    """

    axis: Int = 1
    """The first axis of x that a spans; the batch is axis 0."""
    num_axes: Annotated[int, BeforeValidator(whole(-1))] = 1
    """How many axes of x a learned a spans: 0 is a single number, -1 all that follow."""
    filler: Filler = Filler(value=1.0)
    """How a is initialised."""
    bias_term: Flag = False
    """Whether b is learned; b has the shape of a."""
    bias_filler: Filler = Filler()
    """How b is initialised."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        x, *multiplier = numbers(bottoms)
        if multiplier:
            self._accept(x, multiplier[0])
        else:
            self._span(x)
        return checked(x)

    def _accept(self, x: TensorType, multiplier: TensorType) -> None:
        """A ShapeError unless the multiplier matches the axes of x from the batch on."""
        if axis_of(self.axis, x, first=0) != 0:
            raise ShapeError(
                f"the second bottom {size(multiplier.shape)} begins with the batch, axis 0 of the "
                f"first, not axis {self.axis}",
                field="axis",
                hint="axis: 0",
            )
        if x.shape[: len(multiplier.shape)] != multiplier.shape:
            raise ShapeError(
                f"the second bottom {size(multiplier.shape)} is not a beginning of the first, "
                f"{size(x.shape)}"
            )
        if self.bias_term:
            raise ShapeError("a learned bias needs a learned scale", field="bias_term")

    def _span(self, x: TensorType) -> range:
        """The axes of x that learned values span."""
        if self.num_axes == 0:
            return range(0)
        first = axis_of(self.axis, x)
        end = len(x.shape) if self.num_axes == -1 else first + self.num_axes
        if end > len(x.shape):
            raise ShapeError(
                f"{self.num_axes} axes from axis {first} on, but {size(x.shape)} has "
                f"{len(x.shape) - first}",
                field="num_axes",
            )
        return range(first, end)

    def weights(self, bottoms: Types) -> tuple[Weight, ...]:
        if len(bottoms) == 2:
            return ()
        (x,) = bottoms
        shape = tuple(x.shape[axis] for axis in self._span(x))
        weight = Weight("weight", shape, self.filler)
        if not self.bias_term:
            return (weight,)
        return weight, Weight("bias", shape, self.bias_filler)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x, *multiplier), op = bottoms, context.op
        shape: Shape
        if multiplier:
            (a,) = multiplier
            shape, behind = (0, *a.type.sample), len(x.type.shape) - len(a.type.shape)
        else:
            span = self._span(x.type)
            shape, behind = weights[0].type.shape, len(x.type.shape) - span.stop if span else 0
        ones = (1,) * behind
        factors = [op.Reshape(v, op.ints(*shape, *ones)) if ones else v
                   for v in (*multiplier, *weights)]  # fmt: skip
        y = op.Mul(x, factors[0])
        return (op.Add(y, factors[1]) if self.bias_term else y,)
