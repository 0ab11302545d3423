"""Pad channels: zeros behind the last channel."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.fields import Positive
from netspec.ir.graph import Value
from netspec.ir.layer import Context, Layer, ShapeError, Types, Values, checked, numbers
from netspec.ir.phrases import pad
from netspec.ir.types import TensorType, size


class PadChannels(Layer):
    """y = x, and zeros for the channels from x's last to `num_output`.

    The shortcut without parameters of He et al. 2015 (arXiv:1512.03385), their option A: where a
    residual body gives more channels than it takes, the identity is widened so.
    """

    keyword: ClassVar = "pad_channels"
    example: ClassVar = """
        input "data" { shape: 16x8x8 }
        residual {
          conv { num_output: 32  kernel_size: 3  pad: 1  stride: 2 }
          shortcut {
            pool { kernel_size: 1  stride: 2  round_mode: FLOOR }
            pad_channels { num_output: 32 }
          }
        }
    """

    num_output: Positive
    """Channels of the top: those of the bottom, or more."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        if len(x.shape) < 2:
            raise ShapeError("takes channels, not one number per sample")
        if self.num_output < x.channels:
            raise ShapeError(
                f"num_output {self.num_output} is less than the {x.channels} channels of "
                f"{size(x.sample)}",
                field="num_output",
            )
        return checked(x.with_shape(x.batch, self.num_output, *x.spatial))

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), op = bottoms, context.op
        behind = self.num_output - x.type.channels
        if not behind:
            return (op.Identity(x),)
        none = [0] * len(x.type.spatial)
        return (pad(op, x, [0, *none], [behind, *none]),)
