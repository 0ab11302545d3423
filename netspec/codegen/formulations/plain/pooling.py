"""The gradients of pooling by scattering, by repeating and by products."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from netspec.codegen.formulation import Forms, Sight, formulation
from netspec.codegen.formulations.windows import shares
from netspec.ir.graph import Op, Ops, Value
from netspec.ir.phrases import pad, planes, reshape, scatter
from netspec.ir.types import Shape


def _with_indices(sight: Sight, node: Op) -> bool:
    """Whether the forward made indices: not in blocks."""
    return not sight.any_blocked(node.inputs[2])


@formulation("MaxPoolGrad", "scatter", accepts=_with_indices)
def max_pool(forms: Forms, node: Op) -> Sequence[Value]:
    """Each ȳ is added where the index of its window's first maximum points."""
    y_bar, x, _, indices = node.inputs
    assert x is not None
    assert y_bar is not None
    assert indices is not None
    op, (n, c, *extent) = forms.op, x.type.shape
    # The indices count through the whole tensor: each row of a view by planes has its own origin.
    origins = op.constant(np.arange(n * c).reshape(-1, 1) * prod(extent))
    local = op.Sub(planes(op, forms.plain(indices)), origins)
    # Where windows do not overlap no cell wins twice: nothing to add, so no atomics on CUDA.
    kernel = node.attrs["kernel_shape"]
    strides = node.attrs.get("strides", (1,) * len(kernel))
    apart = all(k <= s for k, s in zip(kernel, strides, strict=True))
    rows = planes(op, forms.plain(y_bar))
    flat = scatter(op, (n * c, prod(extent)), local, rows, 1, add=not apart)
    return (reshape(op, flat, *x.type.shape),)


@formulation("AveragePoolGrad", "shares")
def average_pool(forms: Forms, node: Op) -> Sequence[Value]:
    """x̄ = Σ of ȳ/count over the windows that hold a cell."""
    (given,) = node.inputs
    assert given is not None
    op, attrs, shape = forms.op, node.attrs, node.attrs["shape"]
    y_bar = forms.plain(given)
    kernel: Shape = tuple(attrs["kernel_shape"])
    rank = len(kernel)
    stride = tuple(attrs.get("strides", (1,) * rank))
    pads = tuple(attrs.get("pads", (0, 0) * rank))
    begin, end = pads[:rank], pads[rank:]
    share = shares(node, shape[2:], y_bar.type.spatial)
    whole = share.size == 1 and float(share) == 1 / prod(kernel)
    if set(stride) == {1} and begin == end and whole:
        # At stride 1 averaging is its own adjoint.
        back = tuple(k - 1 - p for k, p in zip(kernel, begin, strict=True))
        return (op.AveragePool(y_bar, kernel_shape=kernel, pads=back + back, count_include_pad=1),)
    shared = op.Mul(y_bar, op.constant(share.astype(y_bar.type.dtype)))
    if kernel == stride:
        return (_tile(op, shared, shape, kernel, begin),)
    return (_overlay(op, shared, shape, kernel, stride, begin),)


def _tile(op: Ops, share: Value, shape: Shape, kernel: Shape, begin: Shape) -> Value:
    """Windows side by side: each share repeated over its cells, then cut or padded to x."""
    covered = tuple(o * k for o, k in zip(share.type.spatial, kernel, strict=True))
    cells = op.Resize(
        share,
        None,
        None,
        op.ints(*shape[:2], *covered),
        mode="nearest",
        nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )
    after = [n + p - r for n, p, r in zip(shape[2:], begin, covered, strict=True)]
    return pad(op, cells, [-p for p in begin], after)


def _overlay(
    op: Ops, share: Value, shape: Shape, kernel: Shape, stride: Shape, begin: Shape
) -> Value:
    """Windows that overlap or leave gaps: a product for each axis with [window o holds cell i].

    Of two, each product also turns the axes, and so the second brings them back. For a 3x3 window
    at stride 2 a half of the time of a transposed convolution with ones, and needs no cut behind.
    """
    extent, positions = shape[2:], share.type.spatial
    cells, turned = reshape(op, share, prod(shape[:2]), *positions), int(len(extent) == 2)
    for n, o, k, s, p in zip(extent, positions, kernel, stride, begin, strict=True):
        distance = np.arange(n) - (np.arange(o) * s - p)[:, None]
        holds = (distance >= 0) & (distance < k)
        cells = op.FusedMatMul(cells, op.constant(holds.astype(share.type.dtype)), transA=turned)
    return reshape(op, cells, *shape)
