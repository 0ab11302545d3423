"""Power: each cell, scaled and shifted, to a power."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.fields import Real
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, ShapeError, Types, Values, numbers
from netspec.ir.phrases import affine
from netspec.ir.types import TensorType


class Power(Layer):
    """y = (shift + scale · x)^power (Caffe, `power_layer.cpp`).

    Where scale · power is 0, every cell is shift^power, or 1 if the power is 0, whatever x is.
    """

    keyword: ClassVar = "power"
    caffe: ClassVar = CaffeType("Power", "power_param", "POWER")
    in_place: ClassVar = True
    counts_labels: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 10 }
        power { power: 2  scale: 0.5  shift: 1 }
    """

    power: Real = 1.0
    """The exponent."""
    scale: Real = 1.0
    """What x is multiplied by."""
    shift: Real = 0.0
    """What is then added."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        self._constant()
        return (x,)

    def _constant(self) -> float | None:
        """What every cell is, if that does not hang on x; a ShapeError if it is no number."""
        if self.power == 0:
            return 1.0
        if self.scale != 0:
            return None
        try:
            value = self.shift**self.power
        except (ZeroDivisionError, OverflowError):
            value = None
        if not isinstance(value, float):  # a root of a negative number is complex
            raise ShapeError(
                f"with scale: 0 every cell is {self.shift:g}^{self.power:g}, which is no number",
                field="power",
            )
        return value

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), op = bottoms, context.op
        value = self._constant()
        if value is not None:  # as many cells as x has, at any batch size; and no gradient
            return (op.Where(op.IsNaN(x), op.scalar(value), op.scalar(value)),)
        y = affine(op, x, self.scale, self.shift)
        if self.power != 1:
            y = op.Pow(y, op.scalar(self.power))
        return (y if y is not x else op.Identity(x),)
