"""Channel shuffle: groups of channels are dealt out like cards, one from each in turn."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.fields import Positive
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, ShapeError, Types, Values, numbers
from netspec.ir.types import TensorType


class ShuffleChannel(Layer):
    """y[i · group + g] = x[g · channels/group + i] (ShuffleNet, Zhang et al. 2017, 1707.01083).

    Behind a convolution by groups it lets the next one see channels of every group.
    """

    keyword: ClassVar = "shuffle_channel"
    caffe: ClassVar = CaffeType("ShuffleChannel", "shuffle_channel_param")
    example: ClassVar = """
        input "data" { shape: 12x8x8 }
        conv { num_output: 12  kernel_size: 1  group: 3 }
        shuffle_channel { group: 3 }
        conv { num_output: 12  kernel_size: 1  group: 3 }
    """

    group: Positive = 1
    """How many groups the channels are in; 1 leaves them as they are."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        if len(x.shape) < 2:
            raise ShapeError("takes channels, not one number per sample")
        if x.channels % self.group:
            raise ShapeError(
                f"{self.group} groups do not divide {x.channels} channels", field="group"
            )
        return (x,)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), op = bottoms, context.op
        each, spatial = x.type.channels // self.group, x.type.spatial
        if self.group == 1 or each == 1:
            return (op.Identity(x),)
        behind = range(3, 3 + len(spatial))
        hands = op.Reshape(x, op.ints(0, self.group, each, *spatial))
        dealt = op.Transpose(hands, perm=(0, 2, 1, *behind))
        return (op.Reshape(dealt, op.ints(0, x.type.channels, *spatial)),)
