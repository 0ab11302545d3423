"""Batch and local response normalisation, and their gradients, in blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from netspec.codegen.formulation import Forms, Sight, formulation, reads_blocked
from netspec.codegen.formulations.blocked.words import convolve, ending, product_sums, rescale
from netspec.codegen.formulations.normalized import Normalized, keep_normalized, normalized
from netspec.codegen.formulations.roots import power
from netspec.ir.graph import Op, Value
from netspec.ir.phrases import reshape


def _by_batch(sight: Sight, node: Op) -> bool:
    return bool(node.attrs.get("training_mode")) and sight.any_blocked(node.inputs[0])


def _by_statistics(sight: Sight, node: Op) -> bool:
    return not node.attrs.get("training_mode") and sight.any_blocked(node.inputs[0])


def _channel_mean(forms: Forms, x: Value) -> Value:
    """The mean of every channel of a blocked tensor, filling channels included."""
    pooled = forms.op.NchwcGlobalAveragePool(x)
    mean: Value = forms.op.ReduceMean(pooled, forms.op.ints(0, 2, 3), keepdims=0)
    return mean


def _mean_of_products(forms: Forms, a: Value, b: Value) -> Value:
    """The mean of a·b of every channel."""
    op = forms.op
    n, c, *_ = a.type.shape
    cells = a.type.numel // c
    sums = op.Gemm(forms.ones(1, n), product_sums(forms, a, b), alpha=1 / cells)
    return reshape(op, sums, c)


@formulation("BatchNormalization", "blocked", layout="blocked", accepts=_by_batch, joins=True)
def by_batch(forms: Forms, node: Op) -> Sequence[Value]:
    """y = (x - μ)·(scale/σ) + bias, by the batch's own mean and variance.

    All is measured from the mean of the first image, k: with c = x - k, μ = k + mean(c) and
    σ² = mean(c²) - mean(c)². That is at most √n deviations away from μ, so the difference costs
    log2(n + 1) bits at the very worst, whatever the mean is; from 0 it would cost them all.
    """
    x, scale, bias, *_ = node.inputs
    assert x is not None
    assert scale is not None
    assert bias is not None
    op = forms.op
    cells = forms.blocked(x)
    whole, channels = cells.type.channels, x.type.channels
    first = op.Slice(cells, op.ints(0), op.ints(1), op.ints(0))
    origin = _channel_mean(forms, first)
    centred = rescale(forms, cells, None, op.Neg(origin))
    offset = _channel_mean(forms, centred)
    variance = op.Sub(_mean_of_products(forms, centred, centred), op.Mul(offset, offset))
    inverse = op.Reciprocal(op.Sqrt(op.Add(variance, op.scalar(node.attrs["epsilon"]))))
    factor = op.Mul(forms.lengthened(forms.plain(scale), whole), inverse)
    shift = op.Sub(forms.lengthened(forms.plain(bias), whole), op.Mul(factor, offset))
    y = rescale(forms, centred, factor, shift, **ending(forms, node))
    _, mean, _ = node.outputs
    keep_normalized(forms, mean, Normalized(centred, offset, inverse, factor))
    statistics = (op.Add(origin, offset), variance)
    if whole != channels:
        statistics = tuple(op.Slice(v, op.ints(0), op.ints(channels)) for v in statistics)
    return y, *statistics


@formulation("BatchNormalizationGrad", "blocked", layout="blocked", accepts=reads_blocked(1))
def batch_normalization_grad(forms: Forms, node: Op) -> Sequence[Value]:
    """x̄ = f·(ȳ - mean(ȳ) - x̂·mean(ȳ·x̂)) with f = scale/σ and x̂ = (c - mean(c))/σ."""
    y_bar, x, _scale, mean, _ = node.inputs
    assert y_bar is not None
    assert x is not None
    assert mean is not None
    op, channels = forms.op, x.type.channels
    kept = normalized(forms, mean)
    cells = forms.blocked(y_bar)
    count = x.type.numel // channels
    share = _channel_mean(forms, cells)
    felt = op.Sub(_mean_of_products(forms, cells, kept.centred), op.Mul(kept.offset, share))
    slope = op.Mul(felt, kept.inverse)  # mean(ȳ·x̂)
    pull = op.Neg(op.Mul(op.Mul(kept.factor, kept.inverse), slope))
    shift = op.Neg(op.Add(op.Mul(kept.factor, share), op.Mul(pull, kept.offset)))
    x_bar = rescale(forms, cells, kept.factor, None, rescale(forms, kept.centred, pull, shift))
    total = op.scalar(count)
    sums = [op.Mul(slope, total), op.Mul(share, total)]
    if cells.type.channels != channels:
        sums = [op.Slice(v, op.ints(0), op.ints(channels)) for v in sums]
    return x_bar, *sums


@formulation("BatchNormalization", "channels", layout="blocked", accepts=_by_statistics, joins=True)
def by_statistics(forms: Forms, node: Op) -> Sequence[Value]:
    """y = x·(scale/σ) + (bias - μ·scale/σ), by running statistics."""
    x, *vectors = node.inputs
    assert x is not None
    op = forms.op
    cells = forms.blocked(x)
    scale, bias, mean, variance = (forms.plain(v) for v in vectors if v)
    epsilon = op.scalar(node.attrs.get("epsilon", 1e-5))
    factor = op.Div(scale, op.Sqrt(op.Add(variance, epsilon)))
    shift = op.Sub(bias, op.Mul(mean, factor))
    factor, shift = (forms.lengthened(v, cells.type.channels) for v in (factor, shift))
    return (rescale(forms, cells, factor, shift, **ending(forms, node)),)


def _neighbours(forms: Forms, x: Value, node: Op, factor: float) -> Value:
    """`factor` times the sum over neighbouring channels: a pointwise convolution with a band."""
    op, block = forms.op, forms.block
    whole = x.type.channels
    distance = np.abs(np.arange(whole)[:, None] - np.arange(whole))
    band = (distance <= node.attrs["size"] // 2) * np.float32(factor)
    # [m/b][c/b][b of c][b of m], as blocked convolutions read filters.
    lanes = band.reshape(whole // block, block, whole // block, block).transpose(0, 2, 3, 1)
    filters = np.ascontiguousarray(lanes, np.float32).reshape(whole, whole, 1, 1)
    return convolve(op, x, op.constant(filters))


def _lrn_base(forms: Forms, node: Op, x: Value) -> Value:
    """k + α/n·Σ x² over n neighbouring channels; made anew for the gradient."""
    op = forms.op
    mean = _neighbours(forms, op.Mul(x, x), node, node.attrs["alpha"] / node.attrs["size"])
    base: Value = op.Add(mean, op.scalar(node.attrs.get("bias", 1.0)))
    return base


@formulation("LRN", "blocked", layout="blocked", accepts=reads_blocked(0))
def lrn(forms: Forms, node: Op) -> Sequence[Value]:
    """y = x·b^-β with b = k + α/n·Σ x²."""
    (given,) = node.inputs
    assert given is not None
    op, x = forms.op, forms.blocked(given)
    return (op.Mul(x, power(op, _lrn_base(forms, node, x), -node.attrs["beta"])),)


@formulation("LRNGrad", "blocked", layout="blocked", accepts=reads_blocked(1))
def lrn_grad(forms: Forms, node: Op) -> Sequence[Value]:
    """x̄ = ȳ·b^-β - 2·α·β/n·x·Σ ȳ·y/b."""
    y_bar, x, y = (forms.blocked(v) for v in node.inputs if v)
    op, size, beta = forms.op, node.attrs["size"], node.attrs["beta"]
    base = _lrn_base(forms, node, x)
    weight = -2 * node.attrs["alpha"] * beta / size
    felt = _neighbours(forms, op.Div(op.Mul(y_bar, y), base), node, weight)
    return (op.Add(op.Mul(y_bar, power(op, base, -beta)), op.Mul(x, felt)),)
