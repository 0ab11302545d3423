"""The gradients of a convolution by transposed convolution and by products.

Those of the filters come tap by tap, or all at once from columns: every cell of x as often as
windows read it. Columns take few operators and, for a while, much memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

import numpy as np
import numpy.typing as npt

from netspec.codegen.formulation import Forms, Sight, formulation, on_cuda
from netspec.codegen.formulations.plain.shape import PARTS, joined
from netspec.codegen.formulations.slide import Slide
from netspec.ir.graph import Op, Ops, Value
from netspec.ir.phrases import pad, reshape, sum_over
from netspec.ir.types import Shape

_FEW_CHANNELS = 4
"""Up to here a product per tap is too narrow to be worth its call: LeNet's first 2.5 ms, or 0.5."""
_COLUMNS = 2**26
"""Cells of columns that are made at once: 256 MiB, where taps allow it."""


@formulation("ConvGradInput", "transposed")
def transposed(forms: Forms, node: Op) -> Sequence[Value]:
    """Each cell of ȳ spreads its window over x̄; cells that no window read get zero."""
    y_bar, w = (forms.plain(v) for v in node.inputs if v)
    return (_slide_back(forms.op, Slide.of(node), node.attrs["shape"][2:], w, y_bar),)


@formulation("ConvGradWeight", "taps")
def taps(forms: Forms, node: Op) -> Sequence[Value]:
    """w̄: for every tap of the kernel, ȳ times the cells of x that the tap met.

    A convolution by ȳ would be one operator, but is the wrong shape for cuDNN and for MLAS.
    """
    x, y_bar = (forms.plain(v) for v in node.inputs if v)
    return (_filters(forms.op, Slide.of(node), x, y_bar, node.attrs["shape"]),)


def _products_on_cuda(sight: Sight, node: Op) -> bool:
    """Whether that is to be had on CUDA; depthwise filters have no product."""
    m, c, *_ = node.attrs["shape"]
    return on_cuda(sight, node) and bool(m > node.attrs.get("group", 1) or c > 1)


@formulation("ConvGradWeight", "columns", accepts=_products_on_cuda)
def columns(forms: Forms, node: Op) -> Sequence[Value]:
    """w̄: ȳ times columns of x, image by image, and the sum of that."""
    x, y_bar = (forms.plain(v) for v in node.inputs if v)
    return (_by_columns(forms.op, Slide.of(node), x, y_bar, node.attrs["shape"], beside=False),)


@formulation("ConvGradWeight", "columns beside", accepts=_products_on_cuda)
def columns_beside(forms: Forms, node: Op) -> Sequence[Value]:
    """w̄: ȳ times columns of x, the images side by side: the product does their sum.

    That is worth laying out both anew where a product per image would make more than it reads.
    """
    x, y_bar = (forms.plain(v) for v in node.inputs if v)
    return (_by_columns(forms.op, Slide.of(node), x, y_bar, node.attrs["shape"], beside=True),)


def _slide_back(op: Ops, window: Slide, extent: Shape, w: Value, y_bar: Value) -> Value:
    # onnxruntime's CPU unrolls the result image by image and group by group: a convolution is
    # faster where that is idle, pointwise (2.2 ms against 3.1 for 32x512x7x7), or small work,
    # depthwise (1.4 against 3.2 for 32x64x32x32 by 3x3).
    narrow = window.group > 1 and w.type.channels <= _FEW_CHANNELS
    if window.transposable() and (narrow or prod(window.kernel) == 1):
        return _mirrored(op, window, w, y_bar)
    left = tuple(
        n + 2 * p - r
        for n, p, r in zip(extent, window.pad, window.reach(y_bar.type.spatial), strict=True)
    )
    x_bar: Value = op.ConvTranspose(y_bar, w, **window.attrs, output_padding=left)
    return x_bar


def _mirrored(op: Ops, window: Slide, w: Value, y_bar: Value) -> Value:
    """At stride 1: a convolution by the filters mirrored, in and out exchanged in each group."""
    m, c, *kernel = w.type.shape
    axes = [2 + i for i, k in enumerate(kernel) if k > 1]
    if axes:
        back = [-1] * len(axes)
        stops = [-kernel[axis - 2] - 1 for axis in axes]
        w = op.Slice(w, op.ints(*back), op.ints(*stops), op.ints(*axes), op.ints(*back))
    by_group = reshape(op, w, window.group, m // window.group, c, prod(kernel))
    if c > 1 and m > window.group:
        by_group = op.Transpose(by_group, perm=(0, 2, 1, 3))
    w = reshape(op, by_group, window.group * c, m // window.group, *kernel)
    pads = tuple(
        d * (k - 1) - p for d, k, p in zip(window.dilation, window.kernel, window.pad, strict=True)
    )
    x_bar: Value = op.Conv(y_bar, w, **{**window.attrs, "pads": pads + pads})
    return x_bar


def _filters(op: Ops, window: Slide, x: Value, y_bar: Value, shape: Shape) -> Value:
    m, c, *kernel = shape
    x = pad(op, x, window.pad, window.pad)
    taps = list(product(*map(range, kernel)))
    if m == window.group and c == 1:
        by_tap = [_depthwise(op, y_bar, _met(op, window, x, tap, y_bar)) for tap in taps]
    else:
        by_tap = _products(op, window, x, y_bar, shape, taps)
    w_bar = joined(op, by_tap, axis=1)
    if c > 1 and len(taps) > 1:
        w_bar = op.Transpose(w_bar, perm=(0, 2, 1))
    return reshape(op, w_bar, *shape)


def _depthwise(op: Ops, y_bar: Value, met: Value) -> Value:
    """One tap of w̄, m x 1 x 1: a batch of products of one row would be all calls, no work."""
    n, m, *extent = y_bar.type.shape
    rows = reshape(op, op.Mul(y_bar, met), n, m, prod(extent))
    return reshape(op, sum_over(op, rows, [0, 2]), m, 1, 1)


def _products(
    op: Ops, window: Slide, x: Value, y_bar: Value, shape: Shape, taps: Sequence[Shape]
) -> list[Value]:
    """w̄ in runs of taps, each m x taps x c: ȳ times what the taps met, side by side."""
    (n, _, *extent), (m, c, *_), group = y_bar.type.shape, shape, window.group
    # One product per image is a sum over images of m x c results each; where those outweigh what
    # they are made of, the images are laid side by side and the product does the sum.
    beside = n > 1 and m * c > prod(extent) * (m + c * group)
    if beside:
        x, y_bar = (op.Transpose(v, perm=(1, 0, *range(2, len(shape)))) for v in (x, y_bar))
    lead, cells = ((group,), n * prod(extent)) if beside else ((n, group), prod(extent))
    left = reshape(op, y_bar, *lead, m // group, cells)
    run = PARTS if group == 1 and c <= _FEW_CHANNELS else 1
    parts = []
    for first in range(0, len(taps), run):
        columns = [
            reshape(op, _met(op, window, x, tap, y_bar), *lead, c, cells)
            for tap in taps[first : first + run]
        ]
        right = joined(op, columns, axis=len(lead))
        part = op.FusedMatMul(left, right, transB=1)
        part = part if beside else sum_over(op, part, [0])
        parts.append(reshape(op, part, m, len(columns), c))
    return parts


def _by_columns(
    op: Ops, window: Slide, x: Value, y_bar: Value, shape: Shape, *, beside: bool
) -> Value:
    n, group, (m, c, *_) = y_bar.type.batch, window.group, shape
    x = pad(op, x, window.pad, window.pad)
    taps, windows = _first_cells(window, x.type.spatial, y_bar.type.spatial)
    plane, cells = prod(x.type.spatial), len(windows)
    lead: Shape = (n, group)
    flat = reshape(op, x, n, group * c, plane)
    if beside:
        x, y_bar = (op.Transpose(v, perm=(1, 0, *range(2, len(shape)))) for v in (x, y_bar))
        lead, cells = (group,), n * cells
        flat = reshape(op, x, group * c, n * plane)
    left = reshape(op, y_bar, *lead, m // group, cells)
    run = max(1, _COLUMNS // (prod(lead) * c * cells))
    # The cells are counted on the device: their table would be a large constant.
    starts = op.constant(windows)
    if beside:
        images = np.arange(0, n * plane, plane, dtype=np.int32).reshape(n, 1)
        starts = op.Add(op.constant(images), starts)
    parts = []
    for first in range(0, len(taps), run):
        some = taps[first : first + run]
        along = some.reshape(len(some), *(1 for _ in starts.type.shape))
        where = op.Add(op.constant(along), starts)
        right = op.Gather(flat, where, axis=len(flat.type.shape) - 1)
        right = reshape(op, right, *lead, c * len(some), cells)
        part = op.FusedMatMul(left, right, transB=1)
        part = part if beside else sum_over(op, part, [0])
        parts.append(reshape(op, part, m, c, len(some)))
    return reshape(op, joined(op, parts, axis=2), *shape)


def _first_cells(
    window: Slide, plane: Shape, extent: Shape
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """The cells of a padded plane, counted through, that the first window's taps meet, and those
    that the first tap meets in each window: the sum of two is what that tap meets in that window.
    """
    taps, windows = np.zeros(1, np.int32), np.zeros(1, np.int32)
    spans = zip(window.kernel, window.dilation, extent, window.stride, plane, strict=True)
    for kernel, dilation, count, stride, length in spans:
        taps = np.add.outer(taps * length, np.arange(kernel, dtype=np.int32) * dilation).ravel()
        windows = np.add.outer(windows * length, np.arange(count, dtype=np.int32) * stride).ravel()
    return taps, windows


def _met(op: Ops, window: Slide, x: Value, tap: Shape, y_bar: Value) -> Value:
    """The cells of the padded `x` that one tap meets, one for each of ȳ."""
    extent = y_bar.type.spatial
    if x.type.spatial == extent:
        return x
    starts = [i * d for i, d in zip(tap, window.dilation, strict=True)]
    stops = [a + (o - 1) * s + 1 for a, o, s in zip(starts, extent, window.stride, strict=True)]
    axes = op.ints(*range(2, 2 + len(extent)))
    cells: Value = op.Slice(x, op.ints(*starts), op.ints(*stops), axes, op.ints(*window.stride))
    return cells
