"""Batch and local response normalisation, and their gradients, by reductions and arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from netspec.codegen.formulation import Forms, Sight, formulation
from netspec.codegen.formulations.roots import power
from netspec.ir.graph import Op, Ops, Value
from netspec.ir.phrases import reshape


def by_batch(_: Sight, node: Op) -> bool:
    """Whether an operator normalises by the batch's own statistics."""
    return bool(node.attrs.get("training_mode"))


@formulation("BatchNormalization", "centred", accepts=by_batch)
def batch_normalization(forms: Forms, node: Op) -> Sequence[Value]:
    """y = (x - μ)·(scale/σ) + bias; the variance is that of x - μ, never E[x²] - μ²."""
    x, scale, bias, *_ = (forms.plain(v) for v in node.inputs if v)
    op = forms.op
    mean = _mean(op, x)
    centred = op.Sub(x, mean)
    variance = _mean(op, op.Mul(centred, centred))
    factor = op.Mul(_spread(op, scale, x), _inverse(op, variance, node))
    y = op.Add(op.Mul(centred, factor), _spread(op, bias, x))
    channels = x.type.channels
    return y, reshape(op, mean, channels), reshape(op, variance, channels)


@formulation("BatchNormalizationGrad", "centred")
def batch_normalization_grad(forms: Forms, node: Op) -> Sequence[Value]:
    """x̄ = scale/σ·(ȳ - mean(ȳ) - x̂·mean(ȳ·x̂)), x̂ = (x - μ)/σ."""
    y_bar, x, scale, mean, variance = (forms.plain(v) for v in node.inputs if v)
    op, channels = forms.op, x.type.channels
    cells = x.type.numel // channels
    inverse = _inverse(op, _spread(op, variance, x), node)
    centred = op.Sub(x, _spread(op, mean, x))
    share = _mean(op, y_bar)
    slope = op.Mul(_mean(op, op.Mul(y_bar, centred)), inverse)
    rest = op.Add(op.Mul(centred, op.Mul(slope, inverse)), share)
    x_bar = op.Mul(op.Sub(y_bar, rest), op.Mul(_spread(op, scale, x), inverse))
    count = op.scalar(cells)
    scale_bar, bias_bar = (reshape(op, op.Mul(v, count), channels) for v in (slope, share))
    return x_bar, scale_bar, bias_bar


def _inverse(op: Ops, variance: Value, node: Op) -> Value:
    """1/σ."""
    sigma = op.Sqrt(op.Add(variance, op.scalar(node.attrs["epsilon"])))
    inverse: Value = op.Reciprocal(sigma)
    return inverse


def _mean(op: Ops, x: Value) -> Value:
    """The mean of every channel, over the plane and then the batch: each is fast on CUDA."""
    if x.type.spatial:
        x = op.ReduceMean(x, op.ints(*range(2, len(x.type.shape))), keepdims=1)
    mean: Value = op.ReduceMean(x, op.ints(0), keepdims=1)
    return mean


def _spread(op: Ops, vector: Value, x: Value) -> Value:
    """A value per channel, shaped to broadcast over `x`."""
    return reshape(op, vector, 1, x.type.channels, *(1 for _ in x.type.spatial))


def _base(op: Ops, node: Op, x: Value) -> Value:
    """k + α/n·Σ x² over n neighbouring channels."""
    size, pad = node.attrs["size"], node.attrs["size"] // 2
    mean = _neighbours(op, op.Mul(x, x), size, pad)
    base: Value = op.Add(op.Mul(mean, op.scalar(node.attrs["alpha"])), op.scalar(_k(node)))
    return base


def _neighbours(op: Ops, x: Value, size: int, pad: int) -> Value:
    """The mean over neighbouring channels; pooling slides over channels x cells as a plane."""
    n, c, *extent = x.type.shape
    plane = reshape(op, x, n, 1, c, prod(extent))
    mean = op.AveragePool(plane, kernel_shape=(size, 1), pads=(pad, 0, pad, 0), count_include_pad=1)
    return reshape(op, mean, *x.type.shape)


def _k(node: Op) -> float:
    k: float = node.attrs.get("bias", 1.0)
    return k


@formulation("LRN", "pooled")
def lrn(forms: Forms, node: Op) -> Sequence[Value]:
    """y = x·b^-β."""
    op, (x,) = forms.op, (forms.plain(v) for v in node.inputs if v)
    return (op.Mul(x, power(op, _base(op, node, x), -node.attrs["beta"])),)


@formulation("LRNGrad", "pooled")
def lrn_grad(forms: Forms, node: Op) -> Sequence[Value]:
    """x̄ = ȳ·b^-β - 2·α·β/n·x·Σ ȳ·y/b, b computed again."""
    y_bar, x, y = (forms.plain(v) for v in node.inputs if v)
    op, size, beta = forms.op, node.attrs["size"], node.attrs["beta"]
    base = _base(op, node, x)
    felt = _neighbours(op, op.Div(op.Mul(y_bar, y), base), size, size // 2)
    pull = op.Mul(op.Mul(x, felt), op.scalar(2 * node.attrs["alpha"] * beta))
    return (op.Sub(op.Mul(y_bar, power(op, base, -beta)), pull),)
