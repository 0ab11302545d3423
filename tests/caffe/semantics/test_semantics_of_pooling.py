"""Windows of Caffe: pooling, pyramids, deconvolution, several bottoms, against numpy."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from netspec.caffe_files import upgrade
from netspec.compiler import elaborate
from netspec.diagnostics import SpecErrors


def pooled(x: np.ndarray, k: int, s: int, p: int, kind: str) -> np.ndarray:
    """Caffe's `pooling_layer.cpp`, loop by loop."""
    counts = []
    for n in x.shape[2:]:
        count = -(-(n + 2 * p - k) // s) + 1
        if p and (count - 1) * s >= n + p:
            count -= 1
        counts.append(count)
    y = np.empty((*x.shape[:2], *counts), np.float64)
    for i, j in product(*map(range, counts)):
        (top, bottom), (left, right) = (
            (a * s - p, min(a * s - p + k, n + p)) for a, n in ((i, x.shape[2]), (j, x.shape[3]))
        )
        size = (bottom - top) * (right - left)
        cells = x[:, :, max(top, 0) : bottom, max(left, 0) : right]
        y[:, :, i, j] = cells.max((2, 3)) if kind == "MAX" else cells.sum((2, 3)) / size
    return y


POOLS = [(k, s, p) for k, s, p in product((2, 3), (1, 2, 3), (0, 1, 2)) if p < k and s <= k]


@pytest.mark.parametrize("kind", ["MAX", "AVE"])
def test_ceil_pooling_clips_only_when_padded(kind: str, net: Any, drawn: Any) -> None:
    x = drawn(2, 2, 8, 7)
    pools = "".join(
        f'pool "p{i}" {{ bottom: "data"  pool: {kind}  kernel_size: {k}  stride: {s}  pad: {p} }} '
        for i, (k, s, p) in enumerate(POOLS)
    )
    names = [f"p{i}" for i in range(len(POOLS))]
    made = net.whole(f'input "data" {{ shape: 2x8x7 }} {pools}', {"data": x}, names)
    for y, pool in zip(made, POOLS, strict=True):
        expected = pooled(x, *pool, kind)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6, err_msg=str(pool))


def test_the_mask_of_clipped_and_overhanging_windows(net: Any, drawn: Any) -> None:
    x = np.abs(drawn(2, 3, 7, 8))
    for k, s, p in ((3, 2, 0), (3, 2, 1), (2, 2, 1), (2, 3, 0)):
        text = f"""
            input "data" {{ shape: 3x7x8 }}
            pool "p" {{ kernel_size: {k}  stride: {s}  pad: {p}  top: ["p", "mask"]
                       round_mode: {"FLOOR" if s > k else "CEIL"} }}
        """
        y, mask = net.compiled(text, {"data": x}, outputs=["p", "mask"])
        found = np.take_along_axis(x.reshape(2, 3, -1), mask.astype(int).reshape(2, 3, -1), 2)
        np.testing.assert_array_equal(found.reshape(y.shape), y)


def test_the_mask_of_one_window_over_all(net: Any, drawn: Any) -> None:
    x = drawn(2, 3, 7, 8)
    text = 'input "data" { shape: 3x7x8 } pool "p" { global_pooling: true  top: ["p", "mask"] }'
    y, mask = net.compiled(text, {"data": x}, outputs=["p", "mask"])
    np.testing.assert_array_equal(mask.ravel(), x.reshape(6, -1).argmax(1))
    np.testing.assert_array_equal(y.ravel(), x.reshape(6, -1).max(1))


def test_average_denominators_count_the_padding_and_not_the_overhang(net: Any) -> None:
    x = np.ones((1, 1, 4, 4))
    text = 'input "data" { shape: 1x4x4 } pool { pool: AVE  kernel_size: 3  stride: 2 '
    (y,) = net.compiled(text + "}", {"data": x})
    np.testing.assert_allclose(y[0, 0], [[1, 1], [1, 1]])  # 9, 6, 6 and 4 cells, all inside
    (y,) = net.compiled(text + "pad: 1 }", {"data": x})
    np.testing.assert_allclose(
        y[0, 0], [[4 / 9, 6 / 9, 2 / 6], [6 / 9, 1, 3 / 6], [2 / 6, 3 / 6, 1 / 4]]
    )


def test_degenerate_pooling_windows_are_refused(net: Any) -> None:
    for fields, said in (
        ("kernel_size: 2  stride: 5", "starts outside of 8x8"),
        ("kernel_size: 2  pad: 2", "pad 2 must be less than kernel_size 2"),
        ("kernel_size: 9", "does not fit into 8x8"),
        ('pool: AVE  kernel_size: 2  top: ["a", "b"]', "AVE has no mask"),
    ):
        with pytest.raises(SpecErrors) as error:
            net.shapes(f'input "data" {{ shape: 2x8x8 }} pool {{ {fields} }}', 1)
        assert said in str(error.value)


@pytest.mark.parametrize("kind", ["MAX", "AVE"])
def test_spp_pools_into_bins(kind: str, net: Any, drawn: Any) -> None:
    x = drawn(2, 3, 9, 8)
    text = f'input "data" {{ shape: 3x9x8 }} spp {{ pool: {kind}  pyramid_height: '
    (y,) = net.compiled(text + "1 }", {"data": x})
    assert y.shape == (2, 3, 1, 1)
    (y,) = net.compiled(text + "3 }", {"data": x})
    levels = []
    for bins in (1, 2, 4):
        kernel = [-(-n // bins) for n in (9, 8)]
        pad = [(k * bins - n + 1) // 2 for k, n in zip(kernel, (9, 8), strict=True)]
        cells = np.empty((2, 3, bins, bins))
        for i, j in product(range(bins), range(bins)):
            bounds = [(a * k - p, min((a + 1) * k - p, n + p))
                      for a, k, p, n in zip((i, j), kernel, pad, (9, 8), strict=True)]  # fmt: skip
            (t, b), (lo, hi) = bounds
            part = x[:, :, max(0, t) : b, max(0, lo) : hi]
            area = (b - t) * (hi - lo)
            cells[:, :, i, j] = part.max((2, 3)) if kind == "MAX" else part.sum((2, 3)) / area
        levels.append(cells.reshape(2, -1))
    np.testing.assert_allclose(y, np.concatenate(levels, 1), rtol=1e-5, atol=1e-6)


def test_deconvolution_in_groups(net: Any, drawn: Any) -> None:
    x, w = drawn(2, 4, 3, 3), drawn(4, 3, 2, 2)
    text = """
        input "data" { shape: 4x3x3 }
        deconv "d" { num_output: 6  group: 2  kernel_size: 2  stride: 2  bias_term: false }
    """
    (y,) = net.compiled(text, {"data": x}, weights={"d.weight": w})
    expected = np.zeros((2, 6, 6, 6))
    for c, o in product(range(4), range(3)):
        for i, j in product(range(3), range(3)):
            out = expected[:, 3 * (c // 2) + o, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            out += x[:, c, i, j, None, None] * w[c, o]
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_a_bilinear_deconvolution_interpolates(net: Any) -> None:
    ramp = np.tile(np.arange(6.0), (1, 2, 6, 1))
    text = """
        input "data" { shape: 2x6x6 }
        deconv { num_output: 2  group: 2  kernel_size: 4  stride: 2  pad: 1  bias_term: false
                 weight_filler { type: bilinear } }
    """
    (y,) = net.compiled(text, {"data": ramp})
    np.testing.assert_allclose(y[0, 0, 3, 1:-1], np.arange(10) / 2 + 0.25, rtol=1e-6)


def test_a_convolution_of_several_bottoms_has_one_weight(net: Any, drawn: Any) -> None:
    a, b, w = drawn(2, 3, 5, 5), drawn(2, 3, 4, 6), drawn(2, 3, 1, 1)
    text = """
        input "a" { shape: 3x5x5 }
        input "b" { shape: 3x4x6 }
        WORD "c" { bottom: ["a", "b"]  top: ["x", "y"]
                   num_output: 2  kernel_size: 1  bias_term: false }
    """
    for word, weight in (("conv", w), ("deconv", np.ascontiguousarray(w.swapaxes(0, 1)))):
        source = text.replace("WORD", word)
        made = net.compiled(
            source, {"a": a, "b": b}, weights={"c.weight": weight}, outputs=["x", "y"]
        )
        for y, x in zip(made, (a, b), strict=True):
            expected = np.einsum("nchw,oc->nohw", x, w[:, :, 0, 0])
            np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    net_made = elaborate(net.spec(source), batch=1).test.net
    assert sum(p.numel for p in net_made.parameters) == 6
    assert net_made.nodes[-1].layer.macs(net_made.nodes[-1].bottom_types) == 6 * (25 + 24)
    with pytest.raises(SpecErrors, match="one weight does not fit"):
        net.shapes(text.replace("WORD", "conv").replace("3x4x6", "2x4x6"), 1)


def test_im2col_lays_windows_out_by_channel_then_tap(net: Any, drawn: Any) -> None:
    x = drawn(2, 3, 6, 7)
    text = (
        'input "data" { shape: 3x6x7 } im2col { kernel_size: 2x3  stride: 2  pad: 1  dilation: 2 }'
    )
    (y,) = net.compiled(text, {"data": x})
    wide = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    rows, columns = (8 - 3) // 2 + 1, (9 - 5) // 2 + 1
    expected = [
        wide[:, c, 2 * i : 2 * i + 2 * rows - 1 : 2, 2 * j : 2 * j + 2 * columns - 1 : 2]
        for c, i, j in product(range(3), range(2), range(3))
    ]
    np.testing.assert_array_equal(y, np.stack(expected, 1))


def test_a_convolution_over_three_axes(net: Any, drawn: Any) -> None:
    x, w, b = drawn(2, 4, 7, 6, 8), drawn(6, 2, 3, 2, 1), drawn(6)
    text = """
        input: "data" input_shape { dim: 1 dim: 4 dim: 7 dim: 6 dim: 8 }
        layer { name: "c" type: "Convolution" bottom: "data" top: "c"
          convolution_param { num_output: 6 group: 2 force_nd_im2col: true
            kernel_size: 3 kernel_size: 2 kernel_size: 1 stride: 1 stride: 2 stride: 3
            pad: 1 pad: 0 pad: 2 dilation: 2 dilation: 1 dilation: 1 } }
    """
    (y,) = net.compiled(text, {"data": x}, weights={"c.weight": w, "c.bias": b})
    wide = np.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0), (2, 2)))
    expected = np.zeros((2, 6, 5, 3, 4)) + b[:, None, None, None]
    for o, i, j, k in product(range(6), range(5), range(3), range(4)):
        met = wide[:, o // 3 * 2 : o // 3 * 2 + 2, i : i + 5 : 2, 2 * j : 2 * j + 2, 3 * k]
        expected[:, o, i, j, k] += np.einsum("ncij,cij->n", met, w[o, ..., 0])
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    native = upgrade(str(net.folder / "net.net"))
    assert "kernel_size: 3x2x1" in native
    assert "stride: 1x2x3" in native
    assert "pad: [1, 0, 2]" in native
