"""Batch normalisation: every channel gets mean 0 and variance 1 over the batch."""

from __future__ import annotations

from typing import ClassVar

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
from netspec.ir.phrases import channel_mean
from netspec.ir.types import TensorType, size


class BatchNorm(Layer):
    """y = (x - mean) / √(variance + eps) · weight + bias (Ioffe & Szegedy 2015, arXiv:1502.03167).

    TRAIN takes the batch's mean and biased variance, and folds the mean and the unbiased variance
    into the running ones, which TEST takes; defaults are PyTorch's. Caffe's layer is this one with
    `affine: false`, and a `scale` behind it.
    """

    keyword: ClassVar = "batch_norm"
    caffe: ClassVar = CaffeType("BatchNorm", "batch_norm_param")
    in_place: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 3x32x32 }
        conv { num_output: 16  kernel_size: 3  bias_term: false }
        batch_norm
        relu
    """

    affine: Flag = True
    """Whether each channel is scaled and shifted by a learned weight and bias."""
    eps: PositiveReal = 1e-5
    """Added to the variance."""
    momentum: Share = 0.1
    """The batch's share: running = (1 - momentum) · running + momentum · batch."""
    use_global_stats: Flag | None = None
    """Whether to normalise by the running values and leave them alone; unless given, in TEST."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        if len(x.shape) < 2:
            raise ShapeError("takes channels, not one number per sample")
        return (x,)

    def weights(self, bottoms: Types) -> tuple[Weight, ...]:
        (x,) = bottoms
        if not self.affine:
            return ()
        shape = (x.channels,)
        return Weight("weight", shape, Filler(value=1.0)), Weight("bias", shape, Filler())

    def statistics(self, bottoms: Types) -> tuple[Statistic, ...]:
        (x,) = bottoms
        shape = (x.channels,)
        return Statistic("running_mean", shape, 0.0), Statistic("running_var", shape, 1.0)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), op = bottoms, context.op
        running = self.use_global_stats
        if running is None:
            running = not context.training
        if not running:
            return (self._by_batch(context, x, weights),)
        mean, variance = context.statistic("running_mean"), context.statistic("running_var")
        if context.training:
            centred = op.Sub(x, _spread(op, mean, x))
            return (self._scale(op, centred, _spread(op, variance, x), weights),)
        scale, bias = weights or (_filled(op, x, 1.0), _filled(op, x, 0.0))
        return (op.BatchNormalization(x, scale, bias, mean, variance, epsilon=self.eps),)

    def _by_batch(self, context: Context, x: Value, weights: Values) -> Value:
        op, channels = context.op, x.type.channels
        if not context.training:  # a deployed net of operators that every runtime has
            mean = channel_mean(op, x)
            centred = op.Sub(x, mean)
            return self._scale(op, centred, channel_mean(op, op.Mul(centred, centred)), weights)
        cells = x.type.numel // channels
        if cells == 1:
            raise ShapeError(
                f"TRAIN has one cell per channel in {size(x.type.shape)}: a variance needs two"
            )
        none = _filled(op, x, 0.0)
        scale, bias = weights or (_filled(op, x, 1.0), none)
        # With a momentum of 0 the running statistics that ONNX puts out are those of the batch.
        y, mean, variance = op.BatchNormalization(
            x, scale, bias, none, none,
            outputs=3, training_mode=1, momentum=0.0, epsilon=self.eps,
        )  # fmt: skip
        unbiased = op.Mul(variance, op.scalar(cells / (cells - 1)))
        context.observe("running_mean", mean, self.momentum)
        context.observe("running_var", unbiased, self.momentum)
        normalised: Value = y
        return normalised

    def _scale(self, op: Ops, centred: Value, variance: Value, weights: Values) -> Value:
        deviation = op.Sqrt(op.Add(variance, op.scalar(self.eps)))
        y: Value
        if not weights:
            y = op.Mul(centred, op.Div(op.scalar(1), deviation))
        else:
            weight, bias = (_spread(op, w, centred) for w in weights)
            y = op.Add(op.Mul(centred, op.Div(weight, deviation)), bias)
        return y


def _spread(op: Ops, vector: Value, x: Value) -> Value:
    """A value per channel, shaped to broadcast over `x`."""
    spread: Value = op.Reshape(vector, op.ints(1, -1, *(1 for _ in x.type.spatial)))
    return spread


def _filled(op: Ops, x: Value, value: float) -> Value:
    import numpy as np

    return op.constant(np.full(x.type.channels, value, np.float32))
