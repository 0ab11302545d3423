"""Batch and local response normalisation, and their gradients, by reductions and arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from netspec.codegen.formulation import Forms, Sight, formulation, on_cuda
from netspec.codegen.formulations.normalized import Normalized, keep_normalized, normalized
from netspec.codegen.formulations.roots import power
from netspec.ir.graph import Op, Ops, Value
from netspec.ir.phrases import channel_mean, reshape


def by_batch(_: Sight, node: Op) -> bool:
    """Whether an operator normalises by the batch's own statistics."""
    return bool(node.attrs.get("training_mode"))


@formulation("BatchNormalization", "centred", accepts=by_batch)
def batch_normalization(forms: Forms, node: Op) -> Sequence[Value]:
    """y = (x - μ)·(scale/σ) + bias, by the batch's own mean and variance.

    What the mean's own rounding leaves in c = x - mean(x) is taken into account: μ = mean(x) +
    mean(c) and σ² = mean(c²) - mean(c)². Else a mean of 1000 σ would cost three digits.
    """
    x, scale, bias, *_ = (forms.plain(v) for v in node.inputs if v)
    op, channels = forms.op, x.type.channels
    origin = channel_mean(op, x)
    centred = op.Sub(x, origin)
    offset = channel_mean(op, centred)
    variance = op.Sub(channel_mean(op, op.Mul(centred, centred)), op.Mul(offset, offset))
    inverse = op.Reciprocal(op.Sqrt(op.Add(variance, op.scalar(node.attrs["epsilon"]))))
    factor = op.Mul(_spread(op, scale, x), inverse)
    shift = op.Sub(_spread(op, bias, x), op.Mul(factor, offset))
    y = op.Add(op.Mul(centred, factor), shift)
    _, mean, _ = node.outputs
    keep_normalized(forms, mean, Normalized(centred, offset, inverse, factor))
    return y, reshape(op, op.Add(origin, offset), channels), reshape(op, variance, channels)


@formulation("BatchNormalizationGrad", "centred")
def batch_normalization_grad(forms: Forms, node: Op) -> Sequence[Value]:
    """x̄ = scale/σ·(ȳ - mean(ȳ) - x̂·mean(ȳ·x̂)), x̂ = (c - mean(c))/σ."""
    y_bar, x, _, mean, _ = node.inputs
    assert y_bar is not None
    assert x is not None
    assert mean is not None
    op, channels, cells = forms.op, x.type.channels, forms.plain(y_bar)
    kept = normalized(forms, mean)
    count = op.scalar(x.type.numel // channels)
    share = channel_mean(op, cells)
    felt = op.Sub(channel_mean(op, op.Mul(cells, kept.centred)), op.Mul(kept.offset, share))
    slope = op.Mul(felt, kept.inverse)  # mean(ȳ·x̂)
    pull = op.Mul(op.Mul(kept.factor, kept.inverse), slope)
    shift = op.Sub(op.Mul(pull, kept.offset), op.Mul(kept.factor, share))
    pulled = op.Sub(shift, op.Mul(kept.centred, pull))
    x_bar = op.Add(op.Mul(cells, kept.factor), pulled)
    sums = (reshape(op, op.Mul(v, count), channels) for v in (slope, share))
    return x_bar, *sums


def _images_on_cuda(sight: Sight, node: Op) -> bool:
    x = node.inputs[1] if node.op_type == "BatchNormalizationGrad" else node.inputs[0]
    assert x is not None
    return len(x.type.shape) == 4 and on_cuda(sight, node)


@formulation(
    "BatchNormalization",
    "affine",
    accepts=lambda sight, node: by_batch(sight, node) and _images_on_cuda(sight, node),
)
def batch_normalization_affine(forms: Forms, node: Op) -> Sequence[Value]:
    """y = (c - mean(c))·scale/σ + bias in one pass, as inference has it; c = x - mean(x)."""
    x, scale, bias, *_ = (forms.plain(v) for v in node.inputs if v)
    op = forms.op
    origin = _mean_by_cells(op, x)
    centred = op.Sub(x, _spread(op, origin, x))
    offset = _mean_by_cells(op, centred)
    squares = _mean_by_cells(op, op.Mul(centred, centred))
    variance = op.Sub(squares, op.Mul(offset, offset))
    inverse = op.Reciprocal(op.Sqrt(op.Add(variance, op.scalar(node.attrs["epsilon"]))))
    y = _affine(op, node, centred, scale, bias, offset, variance)
    _, mean, _ = node.outputs
    spread = (_spread(op, v, x) for v in (offset, inverse, op.Mul(scale, inverse)))
    keep_normalized(forms, mean, Normalized(centred, *spread))
    return y, op.Add(origin, offset), variance


@formulation("BatchNormalizationGrad", "affine", accepts=_images_on_cuda)
def batch_normalization_grad_affine(forms: Forms, node: Op) -> Sequence[Value]:
    """x̄ = scale/σ·(u - mean(u)) in one pass, u = ȳ - c·mean(ȳ·x̂)/σ."""
    y_bar, x, scale, mean, variance = node.inputs
    assert y_bar is not None
    assert x is not None
    assert scale is not None
    assert mean is not None
    assert variance is not None
    op, channels, cells = forms.op, x.type.channels, forms.plain(y_bar)
    kept = normalized(forms, mean)
    offset, inverse = (reshape(op, v, channels) for v in (kept.offset, kept.inverse))
    share = _mean_by_cells(op, cells)
    felt = op.Sub(_mean_by_cells(op, op.Mul(cells, kept.centred)), op.Mul(offset, share))
    slope = op.Mul(felt, inverse)  # mean(ȳ·x̂)
    pull = op.Mul(inverse, slope)
    u = op.Sub(cells, op.Mul(kept.centred, _spread(op, pull, x)))
    centre = op.Sub(share, op.Mul(pull, offset))
    none = op.constant(np.zeros(channels, np.float32))
    x_bar = _affine(op, node, u, forms.plain(scale), none, centre, forms.plain(variance))
    count = op.scalar(x.type.numel // channels)
    return x_bar, op.Mul(slope, count), op.Mul(share, count)


def _affine(
    op: Ops, node: Op, x: Value, scale: Value, bias: Value, mean: Value, variance: Value
) -> Value:
    """(x - mean)·scale/√(variance + ε) + bias: a kernel of cuDNN's."""
    y: Value = op.BatchNormalization(x, scale, bias, mean, variance, epsilon=node.attrs["epsilon"])
    return y


def _mean_by_cells(op: Ops, x: Value) -> Value:
    """The mean of every channel, over the batch and then the plane.

    CUDA reads rows that lie side by side faster than it sums the cells of small planes, one after
    the other: 32x2048x7x7 in 13 µs for 29. And one division does for both.
    """
    by_cell = op.ReduceSum(x, op.ints(0), keepdims=1)
    total = reshape(op, op.ReduceSum(by_cell, op.ints(2, 3), keepdims=0), x.type.channels)
    mean: Value = op.Mul(total, op.scalar(x.type.channels / x.type.numel))
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
