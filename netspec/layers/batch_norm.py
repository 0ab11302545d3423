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
    batched,
    numbers,
)
from netspec.ir.phrases import channel_mean
from netspec.ir.types import TensorType, size


class BatchNorm(Layer):
    """y = (x - mean) / √(variance + eps) · weight + bias (Ioffe & Szegedy 2015, arXiv:1502.03167).

    TRAIN takes the batch's mean and biased variance, and folds the mean and the unbiased variance
    into the running ones, which TEST takes; defaults are PyTorch's. Caffe's layer is this one with
    `affine: false` and `moving_average_fraction: 0.999`, and a `scale` behind it: its running
    values are sums s' = λ·s + batch, to be divided by `scale_factor`, the sum of ones, and 0 before
    the first batch (Caffe, `batch_norm_layer.cpp`).
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
    moving_average_fraction: Share | None = None
    """λ, what is left of the sums at each batch; if given, the statistics are Caffe's sums."""
    use_global_stats: Flag | None = None
    """Whether to normalise by the running values and leave them alone; unless given, in TEST."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = batched(numbers(bottoms))
        if len(x.shape) < 2 and not self._sums:
            raise ShapeError("takes channels, not one number per sample")
        if self._sums and "momentum" in self.model_fields_set:
            message = "momentum is a share of the batch, moving_average_fraction of the past"
            raise ShapeError(f"{message}: give one", field="momentum")
        return (x,)

    @property
    def _sums(self) -> bool:
        """Whether the statistics are Caffe's."""
        return self.moving_average_fraction is not None

    def weights(self, bottoms: Types) -> tuple[Weight, ...]:
        (x,) = bottoms
        if not self.affine:
            return ()
        shape = (_channels(x),)
        return Weight("weight", shape, Filler(value=1.0)), Weight("bias", shape, Filler())

    def statistics(self, bottoms: Types) -> tuple[Statistic, ...]:
        (x,) = bottoms
        mean = Statistic("running_mean", (_channels(x),), 0.0)
        start = 0.0 if self._sums else 1.0
        variance = Statistic("running_var", (_channels(x),), start, neutral=1.0)
        count = (Statistic("scale_factor", (1,), 0.0, neutral=1.0),) if self._sums else ()
        return mean, variance, *count

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), op = bottoms, context.op
        if len(x.type.shape) == 1:
            (y,) = self.lower(context, [op.Unsqueeze(x, op.ints(1))], weights)
            return (op.Squeeze(y, op.ints(1)),)
        running = self.use_global_stats
        if running is None:
            running = not context.training
        if not running:
            return (self._by_batch(context, x, weights),)
        mean, variance = self._running(context)
        if context.training:
            centred = op.Sub(x, _spread(op, mean, x))
            return (self._scale(op, centred, _spread(op, variance, x), weights),)
        scale, bias = weights or (_filled(op, x, 1.0), _filled(op, x, 0.0))
        return (op.BatchNormalization(x, scale, bias, mean, variance, epsilon=self.eps),)

    def _running(self, context: Context) -> tuple[Value, Value]:
        """Mean and variance by which is normalised: Caffe's are 0 while it has seen no batch."""
        op = context.op
        mean, variance = context.statistic("running_mean"), context.statistic("running_var")
        if not self._sums:
            return mean, variance
        factor, zero = context.statistic("scale_factor"), op.scalar(0)
        empty = op.Equal(factor, zero)
        share = op.Where(empty, zero, op.Reciprocal(op.Where(empty, op.scalar(1), factor)))
        return op.Mul(mean, share), op.Mul(variance, share)

    def _by_batch(self, context: Context, x: Value, weights: Values) -> Value:
        op, channels = context.op, x.type.channels
        if not context.training:  # a deployed net of operators that every runtime has
            mean = channel_mean(op, x)
            centred = op.Sub(x, mean)
            return self._scale(op, centred, channel_mean(op, op.Mul(centred, centred)), weights)
        cells = x.type.numel // channels
        if cells == 1 and not self._sums:
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
        unbiased = op.Mul(variance, op.scalar(cells / max(1, cells - 1)))
        self._observe(context, mean, unbiased)
        normalised: Value = y
        return normalised

    def _observe(self, context: Context, mean: Value, variance: Value) -> None:
        op, kept = context.op, self.moving_average_fraction
        seen = {"running_mean": mean, "running_var": variance}
        if kept is None:
            for name, batch in seen.items():
                context.observe(name, batch, self.momentum)
            return
        for name, batch in {**seen, "scale_factor": op.scalar(1)}.items():
            past = op.Mul(context.statistic(name), op.scalar(kept))
            context.observe(name, op.Add(past, batch), 1.0)

    def _scale(self, op: Ops, centred: Value, variance: Value, weights: Values) -> Value:
        deviation = op.Sqrt(op.Add(variance, op.scalar(self.eps)))
        y: Value
        if not weights:
            y = op.Mul(centred, op.Div(op.scalar(1), deviation))
        else:
            weight, bias = (_spread(op, w, centred) for w in weights)
            y = op.Add(op.Mul(centred, op.Div(weight, deviation)), bias)
        return y


def _channels(x: TensorType) -> int:
    """One number per sample is one channel, as in Caffe."""
    return x.channels if len(x.shape) > 1 else 1


def _spread(op: Ops, vector: Value, x: Value) -> Value:
    """A value per channel, shaped to broadcast over `x`."""
    spread: Value = op.Reshape(vector, op.ints(1, -1, *(1 for _ in x.type.spatial)))
    return spread


def _filled(op: Ops, x: Value, value: float) -> Value:
    import numpy as np

    return op.constant(np.full(x.type.channels, value, np.float32))
