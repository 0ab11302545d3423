"""Pooling against Caffe's loops, written out in numpy."""

from __future__ import annotations

from math import ceil, floor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netspec.ir.layer import ShapeError
from netspec.ir.types import TensorType
from netspec.layers.pool import Pooling


def caffe_count(n: int, k: int, s: int, p: int, padded: bool, mode: str) -> int:
    """`PoolingLayer::Reshape`, one axis; `padded` if either axis is."""
    rounded = ceil if mode == "CEIL" else floor
    count = rounded((n + 2 * p - k) / s) + 1
    if padded and (count - 1) * s >= n + p:
        count -= 1
    return count


def caffe_pool(x: np.ndarray, kernel: Any, stride: Any, pad: Any, mode: str, kind: str) -> Any:
    """`PoolingLayer::Forward_cpu`; None where a window holds no cell of x."""
    extent = x.shape[2:]
    counts = [
        caffe_count(n, k, s, p, any(pad), mode)
        for n, k, s, p in zip(extent, kernel, stride, pad, strict=True)
    ]
    y = np.empty((*x.shape[:2], *counts), np.float32)
    for i, j in np.ndindex(*counts):
        start = [c * s - p for c, s, p in zip((i, j), stride, pad, strict=True)]
        end = [min(a + k, n + p) for a, k, n, p in zip(start, kernel, extent, pad, strict=True)]
        area = (end[0] - start[0]) * (end[1] - start[1])
        (top, left), (bottom, right) = (max(a, 0) for a in start), map(min, end, extent)
        cells = x[:, :, top:bottom, left:right]
        if cells.size == 0:
            return None
        if kind == "MAX":
            y[:, :, i, j] = cells.max((2, 3))
        else:
            y[:, :, i, j] = cells.sum((2, 3)) / (area if kind == "AVE" else 1)
    return y


@st.composite
def geometries(draw: st.DrawFn) -> dict[str, Any]:
    """Windows with pad < kernel that fit; a stride longer than the window is legal."""
    axes = []
    for _ in range(2):
        k = draw(st.integers(1, 5))
        p = draw(st.integers(0, k - 1))
        axes.append((draw(st.integers(max(1, k - 2 * p), 12)), k, draw(st.integers(1, 6)), p))
    extent, kernel, stride, pad = zip(*axes, strict=True)
    return {
        "extent": extent, "kernel": kernel, "stride": stride, "pad": pad,
        "mode": draw(st.sampled_from(["CEIL", "CEIL", "FLOOR"])),
        "kind": draw(st.sampled_from(["MAX", "AVE", "SUM"])),
    }  # fmt: skip


@pytest.mark.parametrize("training", [False, True])
def test_every_geometry_is_caffes(training: bool, forward: Any) -> None:
    seen = {"run": 0, "refused": 0}

    @settings(max_examples=1500, deadline=None, derandomize=True, database=None)
    @given(geometries())
    def check(g: dict[str, Any]) -> None:
        # Negative cells show whether padding ever enters a maximum.
        x = np.random.default_rng(0).uniform(-9, -1, (2, 2, *g["extent"])).astype(np.float32)
        expected = caffe_pool(x, g["kernel"], g["stride"], g["pad"], g["mode"], g["kind"])
        layer = Pooling(
            pool=g["kind"], kernel_size=list(g["kernel"]), stride=list(g["stride"]),
            pad=list(g["pad"]), round_mode=g["mode"],
        )  # fmt: skip
        if expected is None:
            seen["refused"] += 1
            with pytest.raises(ShapeError, match="starts outside"):
                layer.infer([TensorType(x.shape)])
            return
        seen["run"] += 1
        (y,) = forward(layer, x, training=training)
        np.testing.assert_allclose(y, expected, rtol=1e-5)

    check()
    assert seen["run"] > 1000
    assert seen["refused"] > 10


def test_stride_longer_than_window_beside_an_overhang(forward: Any) -> None:
    # Rows hang over; of the columns the padding and one cell more are beyond the last window.
    x = np.random.default_rng(1).uniform(-9, -1, (1, 1, 4, 5)).astype(np.float32)
    for kind in ("MAX", "AVE"):
        layer = Pooling(pool=kind, kernel_size=[3, 2], stride=[2, 3], pad=[0, 1])
        expected = caffe_pool(x, (3, 2), (2, 3), (0, 1), "CEIL", kind)
        np.testing.assert_allclose(forward(layer, x)[0], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "extent", "ceil_mode", "pads"),
    [
        ({"kernel_size": 2, "stride": 2}, (8, 8), 0, (0, 0, 0, 0)),
        ({"kernel_size": 3, "stride": 2}, (8, 8), 1, (0, 0, 0, 0)),
        ({"kernel_size": 3, "stride": 2, "round_mode": "FLOOR"}, (8, 8), 0, (0, 0, 0, 0)),
        # Both axes are clipped: floor gives the same, and the pads stay symmetric for cuDNN.
        ({"kernel_size": 2, "stride": 2, "pad": 1}, (7, 7), 0, (1, 1, 1, 1)),
        # Rows hang over, columns are clipped: their end pad goes.
        ({"kernel_size": 2, "stride": 2, "pad_h": 0, "pad_w": 1}, (7, 7), 1, (0, 1, 0, 0)),
    ],
)
def test_ceil_mode_only_where_windows_hang_over(
    fields: Any, extent: Any, ceil_mode: int, pads: Any, bench: Any
) -> None:
    (op,) = bench(Pooling(**fields), [TensorType((1, 3, *extent))], True).op.ops
    assert op.op_type == "MaxPool"
    assert len(op.outputs) == 2
    assert (op.attrs["ceil_mode"], tuple(op.attrs["pads"])) == (ceil_mode, pads)


@pytest.mark.parametrize(
    ("case", "fields"),
    [
        ("pool_max_2x2_s1", {"kernel_size": 2}),
        ("pool_max_3x2_s1", {"kernel_h": 3, "kernel_w": 2}),
        ("pool_max_2x3_s1", {"kernel_h": 2, "kernel_w": 3}),
        ("pool_max_pad2", {"kernel_size": 3, "stride": 2, "pad": 2}),
        ("pool_ave_pad1", {"pool": "AVE", "kernel_size": 3, "pad": 1}),
    ],
)
def test_caffes_values(case: str, fields: Any, forward: Any, caffe_cases: Any) -> None:
    x = np.array(caffe_cases[case]["input"], np.float32)[None, None]
    (y,) = forward(Pooling(**fields), x)
    np.testing.assert_allclose(y[0, 0], caffe_cases[case]["expected"], rtol=1e-5)


@pytest.mark.parametrize(
    ("case", "fields"),
    [
        ("pool_setup", {"kernel_size": 3, "stride": 2}),
        ("pool_setup_padded", {"pool": "AVE", "kernel_size": 3, "stride": 2, "pad": 1}),
        ("pool_global", {"pool": "AVE", "global_pooling": True}),
    ],
)
def test_caffes_shapes(case: str, fields: Any, caffe_cases: Any) -> None:
    (top,) = Pooling(**fields).infer([TensorType(tuple(caffe_cases[case]["in_shape"]))])
    assert top.shape == tuple(caffe_cases[case]["out_shape"])


@pytest.mark.parametrize("kind", ["MAX", "AVE", "SUM"])
def test_global(kind: str, forward: Any) -> None:
    x = np.random.default_rng(2).normal(size=(2, 3, 5, 7)).astype(np.float32)
    (y,) = forward(Pooling(pool=kind, global_pooling=True), x)
    expected = {"MAX": x.max, "AVE": x.mean, "SUM": x.sum}[kind]((2, 3))
    np.testing.assert_allclose(y[:, :, 0, 0], expected, rtol=1e-4)


def sums(x: np.ndarray, kernel: int, stride: int) -> np.ndarray:
    """The sum of each window, rounded up."""
    return np.array(
        [
            [
                x[:, :, i : i + kernel, j : j + kernel].sum((2, 3))
                for j in range(0, (-(-(x.shape[3] - kernel) // stride)) * stride + 1, stride)
            ]
            for i in range(0, (-(-(x.shape[2] - kernel) // stride)) * stride + 1, stride)
        ]
    ).transpose(2, 3, 0, 1)


def expectation(x: np.ndarray) -> np.ndarray:
    """Σ x²/Σ x of windows of 3 cells, every 2, and 0 of nothing."""
    total = sums(x, 3, 2)
    return np.asarray(sums(x * x, 3, 2) / np.where(total, total, 1))


def test_stochastic_test_is_what_is_to_be_expected(forward: Any) -> None:
    x = np.random.default_rng(4).uniform(0, 3, (2, 3, 8, 9)).astype(np.float32)
    x[0, 0] = 0  # nothing to draw from
    below = np.where(x < 1, x - 1, x).astype(np.float32)
    (y,) = forward(Pooling(pool="STOCHASTIC", kernel_size=3, stride=2), below)
    np.testing.assert_allclose(y, expectation(np.where(x < 1, 0, x)), rtol=1e-5)
    (y,) = forward(Pooling(pool="STOCHASTIC", kernel_size=3, stride=2), x)
    np.testing.assert_allclose(y, expectation(x), rtol=1e-5)
    (y,) = forward(Pooling(pool="STOCHASTIC", global_pooling=True), x[1:])
    expected = (x[1:] ** 2).sum((2, 3)) / x[1:].sum((2, 3))
    np.testing.assert_allclose(y[:, :, 0, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("window", [{"kernel_size": 2, "stride": 2}, {"global_pooling": True}])
def test_stochastic_training_draws_in_proportion(window: Any, forward: Any) -> None:
    # Caffe's loop: the first cell, row by row, with which the running sum passes the draw.
    cells = np.array([[1, 0], [3, 4]], np.float32)
    x = np.broadcast_to(cells, (50, 16, 2, 2)).copy()
    draws = (np.random.default_rng(5).permutation(800) / 800).reshape(50, 16, 1, 1)
    (y,) = forward(Pooling(pool="STOCHASTIC", **window), x, training=True, random0=draws)
    np.testing.assert_array_equal(y, np.select([draws * 8 < 1, draws * 8 < 4], [1, 3], 4))
    assert [np.mean(y == v) for v in (1, 3, 4)] == [1 / 8, 3 / 8, 4 / 8]


def test_stochastic_training_of_zeros_and_of_what_hangs_over(forward: Any) -> None:
    x = np.zeros((1, 1, 3, 3), np.float32)
    x[0, 0, 2, 2] = 5
    layer = Pooling(pool="STOCHASTIC", kernel_size=2, stride=2)
    for draws in (0, 1 - 2**-24):
        (y,) = forward(layer, x, training=True, random0=np.full((1, 1, 2, 2), draws))
        np.testing.assert_array_equal(y[0, 0], [[0, 0], [0, 5]])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "needs kernel_size"),
        ({"pool": "STOCHASTIC", "kernel_size": 2, "pad": 1}, "STOCHASTIC draws no padding"),
        ({"pool": "STOCHASTIC", "kernel_size": 33}, "draws of 1024 cells at most, not of 33x33"),
        ({"kernel_size": 2, "pad": 2}, "pad 2 must be less than kernel_size 2"),
        ({"kernel_size": 7}, "a window of 7x7 does not fit into 6x6"),
        ({"kernel_size": 1, "stride": 4}, "rounded up to 3x3 of them, starts outside of 6x6"),
        ({"global_pooling": True, "kernel_size": 6}, "global_pooling excludes kernel_size"),
        ({"global_pooling": True, "stride": 2}, "global_pooling excludes stride"),
        ({"global_pooling": True, "pad": 1}, "global_pooling excludes pad"),
    ],
)
def test_refused(fields: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        Pooling(**fields).infer([TensorType((1, 3, 6, 6))])


def test_a_top_too_large_to_index() -> None:
    layer = Pooling(kernel_size=2**31 - 1, pad=2**31 - 2)
    with pytest.raises(ShapeError, match="more than 2\\^40 values"):
        layer.infer([TensorType((1, 3, 6, 6))])


@pytest.mark.parametrize(
    ("fields", "lints"),
    [
        ({"round_mode": "FLOOR"}, ("the windows leave out the last 1 row of 6x7",)),
        ({"round_mode": "FLOOR", "pad": 1}, ()),
        ({}, ()),
    ],
)
def test_lints(fields: Any, lints: tuple[str, ...]) -> None:
    layer = Pooling(kernel_size=3, stride=2, **fields)
    assert layer.lints([TensorType((1, 3, 6, 7))]) == lints
