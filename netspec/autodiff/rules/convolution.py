"""Convolution is bilinear: each cotangent is a transposed convolution or a batch of products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from netspec.autodiff.phrases import pad, reshape, sum_over
from netspec.autodiff.vjp import Primal, vjp
from netspec.ir.graph import Op, Ops, Value
from netspec.ir.types import Shape

_FEW_CHANNELS = 4
"""Up to here a product per tap is too narrow to be worth its call: LeNet's first 2.5 ms, or 0.5."""
_PARTS = 32
"""Operands that a Concat takes on CUDA without a copy from the host."""


@dataclass(frozen=True, slots=True)
class _Geometry:
    """How the filters slide, one entry per spatial axis."""

    kernel: Shape
    stride: Shape
    pad: Shape
    dilation: Shape
    group: int

    @property
    def attrs(self) -> dict[str, Any]:
        """As ONNX's Conv and ConvTranspose want it."""
        return {
            "kernel_shape": self.kernel,
            "strides": self.stride,
            "pads": self.pad + self.pad,
            "dilations": self.dilation,
            "group": self.group,
        }

    def reach(self, extent: Shape) -> Shape:
        """Cells, padding included, from the first to the last that `extent` windows read."""
        return tuple(
            (o - 1) * s + d * (k - 1) + 1
            for o, s, d, k in zip(extent, self.stride, self.dilation, self.kernel, strict=True)
        )

    def transposable(self) -> bool:
        """Whether a convolution with mirrored filters slides back over what this one made."""
        return set(self.stride) == {1} and all(
            p <= d * (k - 1) for p, d, k in zip(self.pad, self.dilation, self.kernel, strict=True)
        )


def _geometry(node: Op) -> _Geometry:
    _, w, *_ = node.inputs
    assert w is not None
    attrs, kernel = node.attrs, w.type.spatial
    rank = len(kernel)
    pads = tuple(attrs.get("pads", (0, 0) * rank))
    assert pads[:rank] == pads[rank:], f"{node.name}: cuDNN refuses asymmetric pads {pads}"
    assert attrs.get("auto_pad", "NOTSET") == "NOTSET", node.name
    ones = (1,) * rank
    return _Geometry(
        kernel,
        tuple(attrs.get("strides", ones)),
        pads[:rank],
        tuple(attrs.get("dilations", ones)),
        attrs.get("group", 1),
    )


@vjp("Conv")
def conv(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """x̄ = conv_transpose(ȳ, w); w̄[m,c,i] = Σ_n ȳ[n,m]·x[n,c,i::s]; b̄ = Σ ȳ over n,h,w."""
    x, w, *bias = primal.node.inputs
    assert x is not None
    assert w is not None
    window = _geometry(primal.node)
    # The small ones first: what is emitted in this order holds one large value less.
    w_bar = _filters(op, window, x, y_bar, w.type.shape) if primal.wants(1) else None
    b_bar = [_bias(op, primal, y_bar) for _ in bias]
    x_bar = _slide_back(op, window, x, w, y_bar) if primal.wants(0) else None
    return [x_bar, w_bar, *b_bar]


@vjp("ConvTranspose")
def conv_transpose(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """x̄ = conv(ȳ, w); w̄ is that of the convolution from ȳ to x; b̄ = Σ ȳ over n,h,w."""
    x, w, *bias = primal.node.inputs
    assert x is not None
    assert w is not None
    window = _geometry(primal.node)
    w_bar = _filters(op, window, y_bar, x, w.type.shape) if primal.wants(1) else None
    b_bar = [_bias(op, primal, y_bar) for _ in bias]
    x_bar = op.Conv(y_bar, w, **window.attrs) if primal.wants(0) else None
    return [x_bar, w_bar, *b_bar]


def _bias(op: Ops, primal: Primal, y_bar: Value) -> Value | None:
    if not primal.wants(2):
        return None
    return sum_over(op, y_bar, [axis for axis in range(len(y_bar.type.shape)) if axis != 1])


def _slide_back(op: Ops, window: _Geometry, x: Value, w: Value, y_bar: Value) -> Value:
    """Each cell of ȳ spreads its window over x̄; cells that no window read get zero."""
    # onnxruntime's CPU unrolls the result image by image and group by group: a convolution is
    # faster where that is idle, pointwise (2.2 ms against 3.1 for 32x512x7x7), or small work,
    # depthwise (1.4 against 3.2 for 32x64x32x32 by 3x3).
    narrow = window.group > 1 and w.type.channels <= _FEW_CHANNELS
    if window.transposable() and (narrow or prod(window.kernel) == 1):
        return _mirrored(op, window, w, y_bar)
    left = tuple(
        n + 2 * p - r
        for n, p, r in zip(
            x.type.spatial, window.pad, window.reach(y_bar.type.spatial), strict=True
        )
    )
    x_bar: Value = op.ConvTranspose(y_bar, w, **window.attrs, output_padding=left)
    return x_bar


def _mirrored(op: Ops, window: _Geometry, w: Value, y_bar: Value) -> Value:
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


def _filters(op: Ops, window: _Geometry, x: Value, y_bar: Value, shape: Shape) -> Value:
    """w̄: for every tap of the kernel, ȳ times the cells of x that the tap met.

    A convolution by ȳ would be one operator, but is the wrong shape for cuDNN and for MLAS.
    """
    m, c, *kernel = shape
    x = pad(op, x, window.pad, window.pad)
    taps = list(product(*map(range, kernel)))
    if m == window.group and c == 1:
        by_tap = [_depthwise(op, y_bar, _met(op, window, x, tap, y_bar)) for tap in taps]
    else:
        by_tap = _products(op, window, x, y_bar, shape, taps)
    w_bar = op.Concat(*by_tap, axis=1) if len(by_tap) > 1 else by_tap[0]
    if c > 1 and len(taps) > 1:
        w_bar = op.Transpose(w_bar, perm=(0, 2, 1))
    return reshape(op, w_bar, *shape)


def _depthwise(op: Ops, y_bar: Value, met: Value) -> Value:
    """One tap of w̄, m x 1 x 1: a batch of products of one row would be all calls, no work."""
    n, m, *extent = y_bar.type.shape
    rows = reshape(op, op.Mul(y_bar, met), n, m, prod(extent))
    return reshape(op, sum_over(op, rows, [0, 2]), m, 1, 1)


def _products(
    op: Ops, window: _Geometry, x: Value, y_bar: Value, shape: Shape, taps: Sequence[Shape]
) -> list[Value]:
    """w̄ in runs of taps, each m x taps x c: ȳ times what the taps met, side by side."""
    (n, _, *extent), (m, c, *_), group = y_bar.type.shape, shape, window.group
    # One product per image is a sum over images of m x c results each; where those outweigh what
    # they are made of, the images are laid side by side and the product does the sum.
    joined = n > 1 and m * c > prod(extent) * (m + c * group)
    if joined:
        x, y_bar = (op.Transpose(v, perm=(1, 0, *range(2, len(shape)))) for v in (x, y_bar))
    lead, cells = ((group,), n * prod(extent)) if joined else ((n, group), prod(extent))
    left = reshape(op, y_bar, *lead, m // group, cells)
    run = _PARTS if group == 1 and c <= _FEW_CHANNELS else 1
    parts = []
    for first in range(0, len(taps), run):
        columns = [
            reshape(op, _met(op, window, x, tap, y_bar), *lead, c, cells)
            for tap in taps[first : first + run]
        ]
        right = op.Concat(*columns, axis=len(lead)) if len(columns) > 1 else columns[0]
        part = op.FusedMatMul(left, right, transB=1)
        part = part if joined else sum_over(op, part, [0])
        parts.append(reshape(op, part, m, len(columns), c))
    return parts


def _met(op: Ops, window: _Geometry, x: Value, tap: Shape, y_bar: Value) -> Value:
    """The cells of the padded `x` that one tap meets, one for each of ȳ."""
    extent = y_bar.type.spatial
    if x.type.spatial == extent:
        return x
    starts = [i * d for i, d in zip(tap, window.dilation, strict=True)]
    stops = [a + (o - 1) * s + 1 for a, o, s in zip(starts, extent, window.stride, strict=True)]
    axes = op.ints(*range(2, 2 + len(extent)))
    cells: Value = op.Slice(x, op.ints(*starts), op.ints(*stops), axes, op.ints(*window.stride))
    return cells
