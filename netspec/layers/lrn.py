"""Local response normalisation: cells are damped by their strong neighbours."""

from __future__ import annotations

from typing import ClassVar, Literal

from netspec.ir.fields import Positive, PositiveReal
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, ShapeError, Types, Values, image
from netspec.ir.types import TensorType
from netspec.ir.window import Window


class LRN(Layer):
    """y = x / (k + alpha · m)^beta, m the mean of x² over a window with zeros outside.

    ACROSS_CHANNELS: local_size channels around the cell's own. WITHIN_CHANNEL: local_size x
    local_size cells around it, and k = 1 whatever is given (Krizhevsky et al. 2012; Caffe,
    `lrn_layer.cpp`).
    """

    keyword: ClassVar = "lrn"
    caffe: ClassVar = CaffeType("LRN", "lrn_param", "LRN")
    reuses_name: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 96x27x27 }
        lrn { local_size: 5  alpha: 0.0001  beta: 0.75 }
    """

    local_size: Positive = 5
    """Channels, or cells on each spatial axis, that a window spans; odd."""
    alpha: PositiveReal = 1.0
    """Weight of the neighbours."""
    beta: PositiveReal = 0.75
    """The exponent."""
    norm_region: Literal["ACROSS_CHANNELS", "WITHIN_CHANNEL"] = "ACROSS_CHANNELS"
    """Whether the neighbours are channels or cells."""
    k: PositiveReal = 1.0
    """What is added to the neighbours, so that silent ones do not amplify; ACROSS_CHANNELS."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        x = image(bottoms)
        if self.local_size % 2 == 0:
            raise ShapeError(f"local_size must be odd, not {self.local_size}", field="local_size")
        return (x,)

    @property
    def _across(self) -> bool:
        return self.norm_region == "ACROSS_CHANNELS"

    def window(self, bottoms: Types) -> Window | None:
        if self._across:
            return None
        size, pad = self.local_size, self.local_size // 2
        return Window((size, size), (1, 1), (pad, pad), (1, 1))

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), op = bottoms, context.op
        n, pad = self.local_size, self.local_size // 2
        if self._across:
            return (op.LRN(x, size=n, alpha=self.alpha, beta=self.beta, bias=self.k),)
        square = op.Mul(x, x)
        mean = op.AveragePool(square, kernel_shape=(n, n), pads=(pad,) * 4, count_include_pad=1)
        base = op.Add(op.Mul(mean, op.scalar(self.alpha)), op.scalar(1.0))
        return (op.Mul(x, op.Pow(base, op.scalar(-self.beta))),)
