"""BN: the batch normalisations that forks of Caffe had before it had its own."""

from __future__ import annotations

from typing import ClassVar, Literal

from netspec.ir.fields import Flag, PositiveReal, Share
from netspec.ir.filler import Filler
from netspec.ir.graph import Ops, Value
from netspec.ir.layer import (
    CaffeType,
    Context,
    Layer,
    ShapeError,
    Statistic,
    Types,
    Values,
    Weight,
    numbers,
)
from netspec.ir.phrases import channel_mean, reshape
from netspec.ir.types import TensorType, size


class BN(Layer):
    """y = slope · (x - mean) / √(variance + eps) + bias, channel by channel.

    TRAIN takes mean and biased variance of the batch, and running = momentum · running +
    (1 - momentum) · batch, which TEST takes (PSPNet, Zhao et al. 2017, arXiv:1612.01105). With a
    `bn_mode` there are no running ones: LEARN takes the batch's in either phase, INFERENCE none, so
    that y = slope · x + bias (SegNet, Badrinarayanan et al. 2015, arXiv:1511.00561; `bn_layer.cpp`
    of both forks of Caffe).
    """

    keyword: ClassVar = "bn"
    caffe: ClassVar = CaffeType("BN", "bn_param")
    in_place: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 3x16x16 }
        conv { num_output: 8  kernel_size: 3  bias_term: false }
        bn { momentum: 0.95 }
        conv { num_output: 8  kernel_size: 3  bias_term: false }
        bn { bn_mode: INFERENCE }
    """

    bn_mode: Literal["LEARN", "INFERENCE"] | None = None
    """Whether to normalise by every batch, or not at all; unless given, running values are kept."""
    eps: PositiveReal = 1e-5
    """Added to the variance; 1e-9 in SegNet."""
    momentum: Share = 0.9
    """The old share of running values."""
    frozen: Flag = False
    """Whether to normalise by the running values in TRAIN, too, and leave them alone."""
    slope_filler: Filler = Filler(value=1.0)
    """How the slopes are initialised; SegNet's `scale_filler`."""
    bias_filler: Filler = Filler()
    """How the biases are initialised; SegNet's `shift_filler`."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        if len(x.shape) < 2:
            raise ShapeError("takes channels, not one number per sample")
        if self.bn_mode is not None:
            for field in ("momentum", "frozen"):
                if field in self.model_fields_set:
                    raise ShapeError(f"bn_mode excludes {field}", field=field)
        return (x,)

    def weights(self, bottoms: Types) -> tuple[Weight, ...]:
        shape = (bottoms[0].channels,)
        return Weight("slope", shape, self.slope_filler), Weight("bias", shape, self.bias_filler)

    def statistics(self, bottoms: Types) -> tuple[Statistic, ...]:
        if self.bn_mode is not None:
            return ()
        shape = (bottoms[0].channels,)
        return Statistic("running_mean", shape, 0.0), Statistic("running_var", shape, 1.0)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), op = bottoms, context.op
        slope, bias = weights
        if self.bn_mode == "INFERENCE":
            return (op.Add(op.Mul(x, _spread(op, slope, x)), _spread(op, bias, x)),)
        if self.bn_mode is None and (self.frozen or not context.training):
            mean, variance = (context.statistic(f"running_{name}") for name in ("mean", "var"))
            if not context.training:
                y = op.BatchNormalization(x, slope, bias, mean, variance, epsilon=self.eps)
                return (y,)
            centred = op.Sub(x, _spread(op, mean, x))
            return (self._scaled(op, centred, _spread(op, variance, x), weights),)
        return (self._by_batch(context, x, weights),)

    def _by_batch(self, context: Context, x: Value, weights: Values) -> Value:
        op, cells = context.op, x.type.numel // x.type.channels
        if not context.training:  # a deployed net of operators that every runtime has
            centred = op.Sub(x, channel_mean(op, x))
            return self._scaled(op, centred, channel_mean(op, op.Mul(centred, centred)), weights)
        if cells == 1:
            raise ShapeError(
                f"TRAIN has one cell per channel in {size(x.type.shape)}: a variance needs two"
            )
        import numpy as np

        none = op.constant(np.zeros(x.type.channels, np.float32))
        # With a momentum of 0 the running statistics that ONNX puts out are those of the batch.
        y, mean, variance = op.BatchNormalization(
            x, *weights, none, none, outputs=3, training_mode=1, momentum=0.0, epsilon=self.eps
        )
        if self.bn_mode is None:
            context.observe("running_mean", mean, 1 - self.momentum)
            context.observe("running_var", variance, 1 - self.momentum)
        normalised: Value = y
        return normalised

    def _scaled(self, op: Ops, centred: Value, variance: Value, weights: Values) -> Value:
        slope, bias = (_spread(op, weight, centred) for weight in weights)
        deviation = op.Sqrt(op.Add(variance, op.scalar(self.eps)))
        y: Value = op.Add(op.Mul(centred, op.Div(slope, deviation)), bias)
        return y


def _spread(op: Ops, vector: Value, x: Value) -> Value:
    """A value per channel, shaped to broadcast over `x`."""
    return reshape(op, vector, 1, x.type.channels, *(1 for _ in x.type.spatial))
