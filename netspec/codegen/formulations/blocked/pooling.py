"""Pooling and its gradients, in blocks: what won is found again by comparing, tap by tap."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import numpy.typing as npt

from netspec.codegen.formulation import Forms, Sight, formulation, reads_blocked
from netspec.codegen.formulations.blocked.words import (
    STEEP,
    convolve,
    cropped,
    interleaved,
)
from netspec.codegen.formulations.phases import Phase, can_convolve
from netspec.codegen.formulations.windows import Pool, shares
from netspec.ir.graph import Op, Value
from netspec.ir.types import Shape

EQUAL = ("HardSigmoid", (-STEEP, 1.0))
"""Of y - x, where y is not below x: 1 if they are equal, else 0."""


def _max_pool(sight: Sight, node: Op) -> bool:
    """Undilated, its indices wanted by nobody but a gradient that does without."""
    unread = all(
        reader.op_type == "MaxPoolGrad"
        for value in node.outputs[1:]
        for reader in sight.readers.get(value, ())
    )
    undilated = set(node.attrs.get("dilations", (1,))) == {1}
    return sight.any_blocked(node.inputs[0]) and unread and undilated


@formulation("MaxPool", "blocked", layout="blocked", accepts=_max_pool)
def max_pool(forms: Forms, node: Op) -> Sequence[Value | None]:
    """The largest cell of every window; the padding is never it."""
    (x,), (y, *rest) = node.inputs, node.outputs
    assert x is not None
    pool = Pool.of(node)
    pads = pool.pad + pool.ends(x.type.spatial, y.type.spatial)
    pooled = forms.op.NchwcMaxPool(
        forms.blocked(x), kernel_shape=pool.kernel, strides=pool.stride, pads=pads,
        dilations=(1, 1),
    )  # fmt: skip
    return pooled, *(None for _ in rest)


@formulation("MaxPoolGrad", "blocked", layout="blocked", accepts=reads_blocked(2))
def max_pool_grad(forms: Forms, node: Op) -> Sequence[Value]:
    """Tap by tap, ȳ goes where x = y, and what it went to is taken from the rest.

    The last tap gets what is left, so that nothing is lost, and the first maximum wins a tie.
    """
    y_bar, x, y, *_ = node.inputs
    assert y_bar is not None
    assert x is not None
    assert y is not None
    op, pool = forms.op, Pool.of(node)
    rest = forms.blocked(y_bar)
    taps = list(product(*map(range, pool.kernel)))
    won: dict[Shape, Value] = {}
    masked = _masked(forms, node)
    for tap in taps[:-1]:
        mask = _equals(forms, forms.blocked(x), forms.blocked(y), pool, tap)
        inside = pool.inside(tap, x.type.spatial, y.type.spatial)
        if not inside.all() and not masked:
            mask = op.Mul(mask, _map(forms, inside.astype(np.float32), mask))
        won[tap] = op.Mul(rest, mask)
        rest = op.Sub(rest, won[tap])
    won[taps[-1]] = rest
    return (_gathered(forms, won, pool, x.type.spatial, y.type.spatial),)


def _masked(forms: Forms, node: Op) -> bool:
    """Whether ȳ is 0 where y is not above 0: then the zeros of the padding may win."""
    y_bar, _, y, *_ = node.inputs
    maker = next((op for op in forms.graph.ops if y_bar in op.outputs), None)
    return maker is not None and maker.op_type == "ReluGrad" and maker.inputs[1] is y


def _equals(forms: Forms, x: Value, y: Value, pool: Pool, tap: Shape) -> Value:
    """[x = y] for the cell of each window that one tap meets: 1 - STEEP·(y - x), cut to [0, 1]."""
    extent, positions = x.type.spatial, y.type.spatial
    spans = zip(tap, extent, pool.pad, pool.stride, positions, strict=True)
    # As few taps as give the right number of windows.
    kernel = [max(i + 1, n + p - s * o + 1) for i, n, p, s, o in spans]
    ends = [
        max(0, (o - 1) * s + k - n - p)
        for o, s, k, n, p in zip(positions, pool.stride, kernel, extent, pool.pad, strict=True)
    ]
    return convolve(
        forms.op, x, _one(forms, x.type.channels, kernel, tap, -1), None, y,
        stride=pool.stride, pads=(*pool.pad, *ends), group=x.type.channels,
        activation=EQUAL,
    )  # fmt: skip


def _one(
    forms: Forms, channels: int, kernel: Sequence[int], tap: Sequence[int], weight: float = 1
) -> Value:
    """Depthwise filters that pick one tap, times a weight."""
    hot = np.zeros((channels // forms.block, *kernel, forms.block), np.float32)
    hot[:, tap[0], tap[1]] = weight
    return forms.op.constant(hot.reshape(channels, 1, *kernel))


def _map(forms: Forms, cells: npt.NDArray[np.float32], x: Value) -> Value:
    """A number per cell of the plane, for every channel of a block: broadcasts over `x`."""
    lanes = np.broadcast_to(cells[..., None], (*cells.shape, forms.block))
    channels = x.type.channels // forms.block
    full = np.broadcast_to(lanes, (channels, *lanes.shape))
    return forms.op.constant(np.ascontiguousarray(full).reshape(x.type.shape[1:]))


def _gathered(
    forms: Forms, won: dict[Shape, Value], pool: Pool, extent: Shape, positions: Shape
) -> Value:
    """x̄ from what each tap has won: the taps that meet the same cells are moved there and added."""
    height, width = pool.phases(extent, positions)
    none = next(iter(won.values())).type
    rows: list[list[Value]] = []
    for row in height:
        rows.append([])
        for column in width:
            total: Value | None = None
            for (above, i), (before, j) in product(row.taps, column.taps):
                total = _moved(forms, won[i, j], total, (above, before), (row.cells, column.cells))
            if total is None:
                shape = (*none.shape[:2], row.cells, column.cells)
                total = forms.op.constant(np.zeros(shape, np.float32))
            rows[-1].append(total)
    return cropped(forms, interleaved(forms, rows), *extent)


def _moved(
    forms: Forms, x: Value, added: Value | None, by: Sequence[int], extent: Sequence[int]
) -> Value:
    """`added` + x[cell + by], with zeros where there is no such cell."""
    if not any(by) and x.type.spatial == tuple(extent):
        return x if added is None else forms.op.Add(added, x)
    begin, hot, kernel, end = [], [], [], []
    for shift, size, want in zip(by, x.type.spatial, extent, strict=True):
        begin.append(max(0, -shift))
        hot.append(max(0, shift))
        least = want - size - begin[-1] + hot[-1]
        kernel.append(hot[-1] + 1 + max(0, -least))
        end.append(max(0, least))
    w = _one(forms, x.type.channels, kernel, hot)
    return convolve(forms.op, x, w, None, added, pads=(*begin, *end), group=x.type.channels)


@formulation("AveragePool", "blocked", layout="blocked", accepts=reads_blocked(0))
def average_pool(forms: Forms, node: Op) -> Sequence[Value]:
    """A depthwise convolution by equal filters; windows at the border may count fewer cells."""
    (x,), (y,) = node.inputs, node.outputs
    assert x is not None
    pool, cells = Pool.of(node), forms.blocked(x)
    share = shares(node, x.type.spatial, y.type.spatial)
    pads = pool.pad + pool.ends(x.type.spatial, y.type.spatial)
    equal = float(share) if share.size == 1 else 1.0
    filters = np.full((cells.type.channels, 1, *pool.kernel), equal, np.float32)
    mean = convolve(
        forms.op, cells, forms.op.constant(filters), stride=pool.stride, pads=pads,
        group=cells.type.channels,
    )  # fmt: skip
    return (mean if share.size == 1 else _shared(forms, mean, share),)


def _shared(forms: Forms, x: Value, share: npt.NDArray[np.float64]) -> Value:
    shared: Value = forms.op.Mul(x, _map(forms, share.astype(np.float32), x))
    return shared


def _average_pool_grad(sight: Sight, node: Op) -> bool:
    (y_bar,) = node.inputs
    if y_bar is None or not sight.any_blocked(y_bar):
        return False
    axes = Pool.of(node).phases(node.attrs["shape"][2:], y_bar.type.spatial)
    return all(map(can_convolve, axes))


@formulation("AveragePoolGrad", "blocked", layout="blocked", accepts=_average_pool_grad)
def average_pool_grad(forms: Forms, node: Op) -> Sequence[Value]:
    """x̄ = Σ of ȳ/count over the windows that hold a cell, for each phase of the stride."""
    (y_bar,) = node.inputs
    assert y_bar is not None
    pool, extent = Pool.of(node), node.attrs["shape"][2:]
    share = shares(node, extent, y_bar.type.spatial)
    cells = forms.blocked(y_bar)
    if share.size > 1:
        cells = _shared(forms, cells, share)
    equal = float(share) if share.size == 1 else 1.0
    height, width = pool.phases(extent, y_bar.type.spatial)
    rows = [[_held(forms, cells, row, column, equal) for column in width] for row in height]
    return (cropped(forms, interleaved(forms, rows), *extent),)


def _held(forms: Forms, cells: Value, row: Phase, column: Phase, equal: float) -> Value:
    """The sum of the windows that meet the cells of a phase."""
    (top, bottom), (left, right) = row.pads, column.pads
    channels = cells.type.channels
    filters = np.full((channels, 1, len(row.taps), len(column.taps)), equal, np.float32)
    w = forms.op.constant(filters)
    return convolve(forms.op, cells, w, pads=(top, left, bottom, right), group=channels)
