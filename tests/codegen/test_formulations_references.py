"""Operators and their gradients in float64 by numpy's own loops, beside ONNX's reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from onnx import helper
from onnx.reference import ReferenceEvaluator

Array: TypeAlias = npt.NDArray[np.float64]
Pair: TypeAlias = tuple[int, int]


def conv(
    x: Array, w: Array, *, stride: Pair, pad: Pair, dilation: Pair = (1, 1), group: int = 1
) -> Array:
    """y[n,m,o] = Σ x[n,c,o·s+i·d]·w[m,c,i], group by group."""
    windows = _windows(_padded(x, pad, pad), w.shape[2:], stride, dilation)
    parts = zip(np.split(windows, group, axis=1), np.split(w, group), strict=True)
    made = [np.tensordot(cells, own, axes=([1, 4, 5], [1, 2, 3])) for cells, own in parts]
    return np.concatenate(made, axis=3).transpose(0, 3, 1, 2)


def conv_grad_weight(
    x: Array, y_bar: Array, kernel: Pair, *, stride: Pair, pad: Pair, dilation: Pair, group: int
) -> Array:
    """w̄[m,c,i] = Σ ȳ[n,m,o]·x[n,c,o·s+i·d]."""
    windows = _windows(_padded(x, pad, pad), kernel, stride, dilation)
    windows = windows[:, :, : y_bar.shape[2], : y_bar.shape[3]]
    parts = zip(np.split(y_bar, group, axis=1), np.split(windows, group, axis=1), strict=True)
    made = [np.tensordot(own, cells, axes=([0, 2, 3], [0, 2, 3])) for own, cells in parts]
    return np.concatenate(made)


def conv_grad_input(
    y_bar: Array, w: Array, extent: Pair, *, stride: Pair, pad: Pair, dilation: Pair, group: int
) -> Array:
    """x̄: every cell of ȳ spreads its window."""
    parts = zip(np.split(y_bar, group, axis=1), np.split(w, group), strict=True)
    made = []
    for own, filters in parts:
        cells = _padded(np.zeros((len(y_bar), w.shape[1], *extent)), pad, pad)
        for tap in np.ndindex(*w.shape[2:]):
            spread = np.tensordot(own, filters[:, :, tap[0], tap[1]], axes=([1], [0]))
            _met(cells, tap, y_bar.shape[2:], stride, dilation)[:] += spread.transpose(0, 3, 1, 2)
        made.append(_unpadded(cells, pad, extent))
    return np.concatenate(made, axis=1)


def max_pool(
    x: Array, y_bar: Array | None, *, kernel: Pair, stride: Pair, pad: Pair, positions: Pair
) -> tuple[Array, Array]:
    """The largest cell of every window; x̄: each ȳ where its window's first maximum is."""
    ends = _ends(x.shape[2:], kernel, stride, pad, positions)
    wide = _padded(x, pad, ends, fill=-np.inf)
    windows = _windows(wide, kernel, stride)[:, :, : positions[0], : positions[1]]
    flat = windows.reshape(*windows.shape[:4], -1)
    cells = np.zeros(wide.shape)
    if y_bar is not None:
        first = flat.argmax(axis=-1)
        for index, tap in enumerate(np.ndindex(*kernel)):
            _met(cells, tap, positions, stride)[:] += y_bar * (first == index)
    return flat.max(axis=-1), _unpadded(cells, pad, x.shape[2:])


def average_pool(
    x: Array,
    y_bar: Array | None,
    *,
    kernel: Pair,
    stride: Pair,
    pad: Pair,
    end: Pair,
    positions: Pair,
    counted: bool,
) -> tuple[Array, Array]:
    """The mean of every window as Caffe counts it; x̄: ȳ/count to all cells of the window."""
    ends = _ends(x.shape[2:], kernel, stride, pad, positions)
    wide = _padded(x, pad, ends)
    inside = np.ones((1, 1, *x.shape[2:]))
    if counted:
        inside = _padded(inside, pad, end, fill=1.0)
        more = tuple(max(0, e - q) for e, q in zip(ends, end, strict=True))
        inside = _padded(inside, (0, 0), (more[0], more[1]))
    else:
        inside = _padded(inside, pad, ends)
    o = np.s_[:, :, : positions[0], : positions[1]]
    count = _windows(inside, kernel, stride)[o].sum(axis=(4, 5))
    cells = np.zeros(wide.shape)
    if y_bar is not None:
        for tap in np.ndindex(*kernel):
            _met(cells, tap, positions, stride)[:] += y_bar / count
    mean = _windows(wide, kernel, stride)[o].sum(axis=(4, 5)) / count
    return mean, _unpadded(cells, pad, x.shape[2:])


def neighbours(x: Array, size: int) -> Array:
    """The sum over `size` channels around each."""
    wide = np.pad(x, ((0, 0), (size // 2, size // 2), (0, 0), (0, 0)))
    total: Array = sliding_window_view(wide, size, axis=1).sum(axis=-1)
    return total


def _padded(x: Array, before: Sequence[int], after: Sequence[int], fill: float = 0.0) -> Array:
    widths = [(0, 0), (0, 0), *zip(before, after, strict=True)]
    return np.pad(x, widths, constant_values=fill)


def _unpadded(x: Array, pad: Pair, extent: Sequence[int]) -> Array:
    return x[:, :, pad[0] : pad[0] + extent[0], pad[1] : pad[1] + extent[1]]


def _windows(x: Array, kernel: Sequence[int], stride: Pair, dilation: Pair = (1, 1)) -> Array:
    """[n, c, positions, taps]."""
    reach = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    windows: Array = sliding_window_view(x, reach, axis=(2, 3))
    return windows[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def _met(
    x: Array, tap: Sequence[int], positions: Sequence[int], stride: Pair, dilation: Pair = (1, 1)
) -> Array:
    """The cells of the padded `x` that a tap meets, as a view."""
    (rows, columns) = (
        slice(i * d, i * d + (o - 1) * s + 1, s)
        for i, d, o, s in zip(tap, dilation, positions, stride, strict=True)
    )
    return x[:, :, rows, columns]


def _ends(extent: Sequence[int], kernel: Pair, stride: Pair, pad: Pair, positions: Pair) -> Pair:
    rows, columns = (
        max(0, (o - 1) * s + k - n - p)
        for n, k, s, p, o in zip(extent, kernel, stride, pad, positions, strict=True)
    )
    return rows, columns


GEOMETRIES: list[dict[str, Any]] = [
    {"kernel": (3, 3), "stride": (1, 1), "pad": (1, 1)},
    {"kernel": (3, 2), "stride": (2, 3), "pad": (1, 0)},
    {"kernel": (5, 1), "stride": (3, 2), "pad": (4, 0)},
]
each_geometry = pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)


def _onnx(op_type: str, *inputs: Array, kernel: Pair, stride: Pair, pad: Pair, **attrs: Any) -> Any:
    names = [f"x{i}" for i in range(len(inputs))]
    attrs |= {"kernel_shape": kernel, "strides": stride, "pads": (*pad, *pad)}
    node = helper.make_node(op_type, names, ["y"], **attrs)
    return ReferenceEvaluator(node).run(None, dict(zip(names, inputs, strict=True)))[0]


def _draw(*shapes: Sequence[int]) -> list[Array]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape) for shape in shapes]


@each_geometry
@pytest.mark.parametrize(("dilation", "group"), [((1, 1), 1), ((2, 1), 1), ((1, 2), 3)])
def test_convolution_is_that_of_onnx_and_its_gradients_are_its_adjoints(
    geometry: dict[str, Any], dilation: Pair, group: int
) -> None:
    x, dx, w, dw = _draw(*[(2, 6, 9, 8)] * 2, *[(9, 6 // group, *geometry["kernel"])] * 2)
    slide = {k: geometry[k] for k in ("stride", "pad")} | {"dilation": dilation, "group": group}
    y = conv(x, w, **slide)
    theirs = _onnx("Conv", x, w, **geometry, dilations=dilation, group=group)
    np.testing.assert_allclose(y, theirs, rtol=0, atol=1e-12)
    (y_bar,) = _draw(y.shape)
    x_bar = conv_grad_input(y_bar, w, (9, 8), **slide)
    w_bar = conv_grad_weight(x, y_bar, geometry["kernel"], **slide)
    np.testing.assert_allclose(np.vdot(x_bar, dx), np.vdot(y_bar, conv(dx, w, **slide)))
    np.testing.assert_allclose(np.vdot(w_bar, dw), np.vdot(y_bar, conv(x, dw, **slide)))


@each_geometry
def test_pooling_is_that_of_onnx_and_its_gradients_are_its_adjoints(
    geometry: dict[str, Any],
) -> None:
    x, dx = _draw(*[(2, 3, 9, 8)] * 2)
    best, mean = (_onnx(t, x, **geometry) for t in ("MaxPool", "AveragePool"))
    whole = _onnx("AveragePool", x, **geometry, count_include_pad=1)
    (y_bar,) = _draw(best.shape)
    at = {**geometry, "positions": best.shape[2:]}
    y, x_bar = max_pool(x, y_bar, **at)
    np.testing.assert_array_equal(y, best)
    np.testing.assert_allclose(np.vdot(x_bar, x), np.vdot(y_bar, y))
    for counted, theirs in ((False, mean), (True, whole)):
        y, x_bar = average_pool(x, y_bar, end=geometry["pad"], counted=counted, **at)
        moved, _ = average_pool(dx, None, end=geometry["pad"], counted=counted, **at)
        np.testing.assert_allclose(y, theirs, rtol=0, atol=1e-12)
        np.testing.assert_allclose(np.vdot(x_bar, dx), np.vdot(y_bar, moved))


def test_a_tie_goes_to_the_first_cell() -> None:
    x = np.array([[-1.0, -1, -2], [-1, -3, -2]]).reshape(1, 1, 2, 3)
    at: dict[str, Any] = {"kernel": (2, 2), "stride": (1, 1), "pad": (0, 0), "positions": (1, 2)}
    _, x_bar = max_pool(x, np.array([5.0, 7]).reshape(1, 1, 1, 2), **at)
    np.testing.assert_array_equal(x_bar[0, 0], [[5, 7, 0], [0, 0, 0]])


def test_what_hangs_over_the_padding_is_not_counted() -> None:
    x = np.ones((1, 1, 2, 2))
    at: dict[str, Any] = {"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1), "positions": (2, 2)}
    y, _ = average_pool(x, None, end=(1, 1), counted=True, **at)
    # Caffe: the second window has cells 1 and 2, the last of them padding; cell 3 is beyond.
    np.testing.assert_allclose(y[0, 0], [[4 / 9, 2 / 6], [2 / 6, 1 / 4]])


@pytest.mark.parametrize("size", [3, 5])
def test_neighbours_are_those_of_onnx(size: int) -> None:
    (x,) = _draw((7, 7, 2, 3))  # ONNX's reference goes through as many channels as images
    node = helper.make_node("LRN", ["x"], ["y"], size=size, alpha=0.3, beta=1.0, bias=2.0)
    (theirs,) = ReferenceEvaluator(node).run(None, {"x": x})
    np.testing.assert_allclose(x / (2 + 0.3 / size * neighbours(x * x, size)), theirs)
