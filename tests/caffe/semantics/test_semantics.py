"""Where compilers of Caffe's nets usually err, one by one, against the formulas in numpy."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from netspec.compiler import elaborate, upgrade
from netspec.diagnostics import NetspecError, SpecErrors


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


def test_lrn_within_channels_takes_the_mean_and_no_k(net: Any, drawn: Any) -> None:
    x = drawn(2, 3, 5, 6)
    text = """
        input "data" { shape: 3x5x6 }
        lrn { local_size: 3  alpha: 0.7  beta: 0.6  k: 5  norm_region: WITHIN_CHANNEL }
    """
    (y,) = net.compiled(text, {"data": x})
    wide = np.pad(x.astype(np.float64) ** 2, ((0, 0), (0, 0), (1, 1), (1, 1)))
    total = sum(wide[:, :, i : i + 5, j : j + 6] for i, j in product(range(3), range(3)))
    np.testing.assert_allclose(y, x / (1 + 0.7 / 9 * total) ** 0.6, rtol=1e-5)


def test_lrn_across_channels_divides_alpha_and_adds_k(net: Any, drawn: Any) -> None:
    x = drawn(2, 6, 2, 2)
    text = 'input "data" { shape: 6x2x2 } lrn { local_size: 3  alpha: 0.7  beta: 0.6  k: 2 }'
    (y,) = net.compiled(text, {"data": x})
    wide = np.pad(x.astype(np.float64) ** 2, ((0, 0), (1, 1), (0, 0), (0, 0)))
    total = sum(wide[:, i : i + 6] for i in range(3))
    np.testing.assert_allclose(y, x / (2 + 0.7 / 3 * total) ** 0.6, rtol=1e-5)


def test_batch_norms_scale_factor_divides_both_sums(net: Any, drawn: Any) -> None:
    x = drawn(3, 4, 2, 2)
    mean, variance = drawn(4), np.abs(drawn(4)) + 1
    weights = {"bn.running_mean": mean, "bn.running_var": variance}
    text = """
        input "data" { shape: 4x2x2 }
        batch_norm "bn" { affine: false  moving_average_fraction: 0.9 }
    """
    for factor in (4.0, 0.0):
        weights["bn.scale_factor"] = np.array([factor], np.float32)
        (y,) = net.compiled(text, {"data": x}, weights=weights)
        share = 1 / factor if factor else 0
        expected = (x - share * mean[:, None, None]) / np.sqrt(share * variance + 1e-5)[
            :, None, None
        ]
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "fields", "learned"),
    [
        ((2, 3, 4, 5), "", (3, 1, 1)),
        ((2, 3, 4, 5), "axis: -1", (5,)),
        ((2, 3, 4, 5), "axis: 1  num_axes: 2", (3, 4, 1)),
        ((2, 3, 4, 5), "axis: 2  num_axes: -1", (4, 5)),
        ((2, 3, 4, 5), "num_axes: 0", ()),
        ((2, 3, 4, 5), "axis: 0  num_axes: -1", (2, 3, 4, 5)),
        ((2, 3, 4, 5), "axis: 0", (2, 1, 1, 1)),
        ((2, 3), "bias_term: true", (3,)),
    ],
)
def test_scale_and_bias_broadcast_from_an_axis(
    shape: Any, fields: str, learned: Any, net: Any, drawn: Any
) -> None:
    x, a, b = drawn(*shape), drawn(*learned), drawn(*learned)
    kept = tuple(n for n in learned if n > 1)
    text = f'input "data" {{ shape: {"x".join(map(str, shape[1:]))} }} scale "s" {{ {fields} '
    text += "}" if "bias_term" in fields else "bias_term: true }"
    given = {"s.weight": a.reshape(kept), "s.bias": b.reshape(kept)}
    (y,) = net.whole(text, {"data": x}, ["s"], given=given)
    np.testing.assert_allclose(y, x * a + b, rtol=1e-5, atol=1e-6)
    if "bias_term" not in fields:
        (y,) = net.whole(text.replace("scale", "bias").replace("bias_term: true", ""),
                         {"data": x}, ["s"], given={"s.bias": b.reshape(kept)})  # fmt: skip
        np.testing.assert_allclose(y, x + b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("other", "axis", "met"),
    [
        ((2, 3), 0, (2, 3, 1, 1)),
        ((3, 4), 1, (3, 4, 1)),
        ((5,), -1, (5,)),
        ((3, 4, 5), 1, (3, 4, 5)),
    ],
)
def test_the_second_bottom_of_scale_starts_at_an_axis(
    other: Any, axis: int, met: Any, net: Any, drawn: Any
) -> None:
    x, factor = drawn(2, 3, 4, 5), drawn(*other)
    text = f"""
        input "data" {{ shape: 3x4x5 }}
        parameter "p" {{ shape: {"x".join(map(str, (*other, 1)))} }}
        reshape "f" {{ bottom: "p"  shape {{ dim: [{", ".join(map(str, other))}] }} }}
        scale "s" {{ bottom: "data"  bottom: "f"  axis: {axis} }}
        bias "b" {{ bottom: "data"  bottom: "f"  axis: {axis} }}
    """
    given = {"p.weight": factor[..., None]}
    scaled, shifted = net.whole(text, {"data": x}, ["s", "b"], given=given)
    np.testing.assert_allclose(scaled, x * factor.reshape(met), rtol=1e-6)
    np.testing.assert_allclose(shifted, x + factor.reshape(met), rtol=1e-6)


def test_eltwise_coefficients_and_what_goes_with_them(net: Any, drawn: Any) -> None:
    a, b = drawn(2, 3), drawn(2, 3)
    text = """
        input "a" { shape: 3 }
        input "b" { shape: 3 }
        eltwise "s" { bottom: ["a", "b"]  coeff: [-1, 0.5] }
        eltwise "p" { bottom: ["a", "b"]  operation: PROD  stable_prod_grad: false }
        eltwise "m" { bottom: ["a", "b"]  operation: MAX }
    """
    s, p, m = net.whole(text, {"a": a, "b": b}, ["s", "p", "m"])
    np.testing.assert_allclose(s, -a + 0.5 * b, rtol=1e-6)
    np.testing.assert_allclose(p, a * b, rtol=1e-6)
    np.testing.assert_array_equal(m, np.maximum(a, b))


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        ("flatten", (2, 60)),
        ("flatten { axis: 2 }", (2, 3, 20)),
        ("flatten { axis: -3  end_axis: -2 }", (2, 12, 5)),
        ("flatten { axis: 0  end_axis: 1 }", (6, 4, 5)),
        ("flatten { axis: 0 }", (120,)),
        ("reshape { shape { dim: [0, -1] } }", (2, 60)),
        ("reshape { shape { dim: [-1, 20] } }", (6, 20)),
        ("reshape { shape { dim: [0, 0, 20] } }", (2, 3, 20)),
        ("reshape { axis: 1  shape { dim: [5, -1] } }", (2, 5, 12)),
        ("reshape { axis: 1  num_axes: 1  shape { dim: [1, 3] } }", (2, 1, 3, 4, 5)),
        ("reshape { axis: -2  num_axes: 1  shape { dim: [5, 1] } }", (2, 3, 4, 5, 1)),
        ("reshape { axis: -1  shape { dim: 1 } }", (2, 3, 4, 5, 1)),
        ("reshape { axis: 0  num_axes: 2  shape { dim: 6 } }", (6, 4, 5)),
        ("reshape { shape { dim: [4, 0, -1] } }", (4, 3, 10)),
        ("reshape { shape { dim: [1, -1] } }", (1, 120)),
    ],
)
def test_axes_of_reshape_and_flatten(layer: str, expected: Any, net: Any, drawn: Any) -> None:
    x = drawn(2, 3, 4, 5)
    (y,) = net.compiled(f'input "data" {{ shape: 3x4x5 }} {layer}', {"data": x}, fixed=True)
    np.testing.assert_array_equal(y, x.reshape(expected))


def test_a_shape_that_holds_the_batch_wants_a_fixed_one(net: Any, drawn: Any) -> None:
    text = 'input "data" { shape: 12 } reshape { shape { dim: [6, 4] } }'
    with pytest.raises(SpecErrors, match="12 cells, 1x12, do not make 6x4"):
        net.shapes(text, 1)
    assert net.shapes(text, 2)["reshape1"] == (6, 4)
    text = 'input "data" { shape: 12 } reshape { shape { dim: [3, 4] } }'
    with pytest.raises(
        NetspecError, match="`reshape1` hangs on the batch size: fix it with --batch 1"
    ):
        net.compiled(text, {"data": drawn(1, 12)})


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize(("axis", "kept"), [(1, (2,)), (2, (2, 3)), (-1, (2, 3, 4))])
def test_inner_product_sums_from_an_axis_on(
    axis: int, kept: Any, transpose: bool, net: Any, drawn: Any
) -> None:
    x = drawn(2, 3, 4, 5)
    rows = x.reshape(*kept, -1)
    w, b = drawn(rows.shape[-1], 6), drawn(6)
    word = "true" if transpose else "false"
    text = f"""
        input "data" {{ shape: 3x4x5 }}
        fc "f" {{ num_output: 6  axis: {axis}  transpose: {word} }}
    """
    weights = {"f.weight": np.ascontiguousarray(w if transpose else w.T), "f.bias": b}
    (y,) = net.compiled(text, {"data": x}, weights=weights)
    np.testing.assert_allclose(y, rows @ w + b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ("", (2, 2, 2)),
        ("slice_point: [1, 5]", (1, 4, 1)),
        ("axis: -3  slice_point: [3, 4]", (3, 1, 2)),
    ],
)
def test_slice_points_cut_and_none_divide(fields: str, parts: Any, net: Any, drawn: Any) -> None:
    x = drawn(2, 6, 2, 2)
    text = f'input "data" {{ shape: 6x2x2 }} slice {{ top: ["a", "b", "c"]  {fields} }}'
    made = net.compiled(text, {"data": x}, outputs=["a", "b", "c"])
    assert tuple(part.shape[1] for part in made) == parts
    np.testing.assert_array_equal(np.concatenate(made, 1), x)


def test_slice_may_cut_the_batch(net: Any, drawn: Any) -> None:
    x = drawn(6, 3)
    text = 'input "data" { shape: 3 } slice { axis: 0  top: ["a", "b"] }'
    made = net.compiled(text, {"data": x}, outputs=["a", "b"], fixed=True)
    np.testing.assert_array_equal(np.stack(made), x.reshape(2, 3, 3))


def test_concat_of_one_and_along_the_batch(net: Any, drawn: Any) -> None:
    x = drawn(2, 3)
    text = """
        input "data" { shape: 3 }
        concat "one" { bottom: "data" }
        concat "two" { bottom: ["data", "one"]  axis: 0 }
    """
    one, two = net.whole(text, {"data": x}, ["one", "two"])
    np.testing.assert_array_equal(one, x)
    np.testing.assert_array_equal(two, np.concatenate([x, x]))


@pytest.mark.parametrize(
    ("fields", "starts"),
    [
        ("", (0, 0)),
        ("offset: 2", (2, 2)),
        ("offset: [1, 3]", (1, 3)),
        ("axis: 3  offset: 2", (None, 2)),
    ],
)
def test_crop_offsets(fields: str, starts: Any, net: Any, drawn: Any) -> None:
    x = drawn(2, 3, 7, 8)
    text = f"""
        input "data" {{ shape: 3x7x8 }}
        input "like" {{ shape: 1x4x5 }}
        crop {{ bottom: "data"  bottom: "like"  {fields} }}
    """
    (y,) = net.whole(text, {"data": x, "like": drawn(2, 1, 4, 5)}, ["crop1"])
    rows = slice(None) if starts[0] is None else slice(starts[0], starts[0] + 4)
    np.testing.assert_array_equal(y, x[:, :, rows, starts[1] : starts[1] + 5])


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


def test_accuracy_ties_count_against_the_label(net: Any) -> None:
    scores = np.array([[1, 1, 1], [2, 2, 1], [3, 2, 1], [1, 2, 3]])
    text = """
        input "data" { shape: 3 }
        accuracy "one" { bottom: "data"  bottom: "label" }
        accuracy "two" { bottom: "data"  bottom: "label"  top_k: 2 }
    """
    one, two = net.whole(text, {"data": scores, "label": np.zeros(4)}, ["one", "two"])
    assert (float(one), float(two)) == (0.25, 0.5)


def test_accuracy_of_each_class(net: Any) -> None:
    scores = np.eye(4)[[0, 1, 2, 0, 1, 1]]
    label = np.array([0, 1, 1, 2, 1, -1])
    text = """
        input "data" { shape: 4 }
        accuracy "a" { bottom: "data"  bottom: "label"  top: ["a", "each"]  ignore_label: -1 }
    """
    a, each = net.whole(text, {"data": scores, "label": label}, ["a", "each"])
    assert float(a) == pytest.approx(3 / 5)
    np.testing.assert_allclose(each, [1, 2 / 3, 0, 0])


NORMALS = {"VALID": 11.0, "FULL": 12.0, "BATCH_SIZE": 2.0, "NONE": 1.0}


@pytest.mark.parametrize(
    ("fields", "by"),
    [(f"normalization: {name}", by) for name, by in NORMALS.items()]
    + [("", 11.0), ("normalize: false", 2.0), ("normalize: true", 11.0),
       ("normalize: false  normalization: FULL", 12.0)],
)  # fmt: skip
def test_softmax_loss_normalisation_and_ignored_labels(
    fields: str, by: float, net: Any, drawn: Any
) -> None:
    scores = drawn(2, 4, 2, 3)
    label = np.arange(12).reshape(2, 2, 3) % 4
    label[1, 0, 2] = 9
    text = f"""
        input "data" {{ shape: 4x2x3 }}
        input "label" {{ shape: 2x3 }}
        softmax_loss "l" {{ bottom: "data"  bottom: "label"  ignore_label: 9  {fields}
                           top: ["l", "prob"] }}
    """
    loss, prob = net.whole(text, {"data": scores, "label": label}, ["l", "prob"])
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose(prob, p, rtol=1e-5)
    own = np.take_along_axis(p, np.minimum(label, 3)[:, None], 1)[:, 0]
    assert float(loss) == pytest.approx(-np.log(own)[label != 9].sum() / by, rel=1e-5)


def test_all_labels_ignored_is_no_loss(net: Any, drawn: Any) -> None:
    text = """
        input "data" { shape: 3 }
        softmax_loss "l" { bottom: ["data", "label"]  ignore_label: 1 }
    """
    (loss,) = net.whole(text, {"data": drawn(4, 3), "label": np.ones(4)}, ["l"])
    assert float(loss) == 0


def test_a_sample_is_what_lies_before_the_classes(net: Any, drawn: Any) -> None:
    scores, label = drawn(5, 2, 3), np.arange(10).reshape(5, 2) % 3
    text = """
        input "data" { shape: 2x3 }
        input "label" { shape: 2 }
        softmax_loss "l" { bottom: "data"  bottom: "label"  axis: 2  normalization: BATCH_SIZE }
    """
    (loss,) = net.whole(text, {"data": scores, "label": label}, ["l"])
    p = np.exp(scores) / np.exp(scores).sum(2, keepdims=True)
    own = np.take_along_axis(p, label[..., None], 2)
    assert float(loss) == pytest.approx(-np.log(own).sum() / 10, rel=1e-5)


def test_labels_may_be_floats(net: Any, drawn: Any) -> None:
    scores, label = drawn(4, 3), np.array([0, 2, 1, 2])
    text = """
        input "data" { shape: 3 }
        input "target" { shape: 1 }
        softmax_loss "l" { bottom: "data"  bottom: "target" }
        accuracy "a" { bottom: "data"  bottom: "target" }
    """
    loss, right = net.whole(text, {"data": scores, "target": label[:, None]}, ["l", "a"])
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    assert float(loss) == pytest.approx(-np.log(p[np.arange(4), label]).mean(), rel=1e-5)
    assert float(right) == pytest.approx((scores.argmax(1) == label).mean())


def test_labels_may_be_counted(net: Any, drawn: Any) -> None:
    x, label = drawn(4, 1), np.array([[0, 2], [1, 1], [3, 0], [2, 2]])
    head = """
        input "data" { shape: 1 }
        input "label" { shape: 2 }
        slice { bottom: "label"  top: ["first", "second"] }
    """
    loss = 'euclidean_loss "l" { bottom: "data"  bottom: "first" } silence { bottom: "second" }'
    (loss,) = net.whole(head + loss, {"data": x, "label": label}, ["l"])
    assert float(loss) == pytest.approx(((x - label[:, :1]) ** 2).sum() / 8, rel=1e-5)
    text = (
        head
        + """
        concat "both" { bottom: ["data", "second"] }
        power "half" { bottom: "label"  scale: 0.5 }
        eltwise "sum" { bottom: ["first", "second"] }
        flatten "flat" { bottom: "label" }
    """
    )
    wanted = ["both", "half", "sum", "flat"]
    both, half, total, flat = net.whole(text, {"data": x, "label": label}, wanted)
    np.testing.assert_allclose(both, np.concatenate([x, label[:, 1:]], 1))
    np.testing.assert_allclose(half, label / 2)
    np.testing.assert_allclose(total, label.sum(1, keepdims=True))
    np.testing.assert_array_equal(flat, label)


def test_sigmoid_loss_divides_by_the_batch_and_ignores(net: Any, drawn: Any) -> None:
    x, target = drawn(4, 3), np.array([[0, 1, 1], [1, 0, -1], [0, 0, 1], [1, 1, 1]], float)
    each = np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0) - x * target
    for fields, by in (("", 4), ("normalization: VALID", 11), ("normalize: true", 11)):
        text = f"""
            input "data" {{ shape: 3 }}
            input "target" {{ shape: 3 }}
            sigmoid_loss "l" {{ bottom: "data"  bottom: "target"  ignore_label: -1  {fields} }}
        """
        (loss,) = net.whole(text, {"data": x, "target": target}, ["l"])
        assert float(loss) == pytest.approx(each[target >= 0].sum() / by, rel=1e-5)


@pytest.mark.parametrize("each", [False, True])
def test_infogain_of_a_third_bottom(each: bool, net: Any, drawn: Any) -> None:
    scores, label, h = drawn(2, 3), np.array([2, 0]), np.abs(drawn(2 if each else 1, 3, 3))
    shape = "2x3x3" if each else "1x1x3x3"
    text = f"""
        input "data" {{ shape: 3 }}
        parameter "h" {{ shape: {shape} }}
        infogain_loss "l" {{ bottom: ["data", "label", "h"] }}
    """
    given = {"h.weight": h.reshape(tuple(map(int, shape.split("x"))))}
    (loss,) = net.whole(text, {"data": scores, "label": label}, ["l"], given=given)
    logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    rows = np.stack([h[i if each else 0, label[i]] for i in range(2)])
    assert float(loss) == pytest.approx(-(rows * logs).sum() / 2, rel=1e-5)


def test_chains_in_place(net: Any, drawn: Any) -> None:
    """Every layer of Caffe's that keeps the shape, one over the other, but AbsVal and Reshape."""
    chain = """
        scale; bias; batch_norm affine: false  moving_average_fraction: 0.9; mvn; lrn; softmax
        eltwise coeff: [1, 3]; power power: 1.5; exp; log; relu; prelu; elu; swish; sigmoid; tanh
        softplus; dropout; clip min: 0  max: 1; threshold threshold: 0.2
    """
    over = apart = 'input "data" { shape: 3x4x4 } power "c" '
    last = "c"
    for i, layer in enumerate(" ; ".join(chain.strip().splitlines()).split(";")):
        word, _, fields = layer.strip().partition(" ")
        read, again = (f'bottom: ["{b}", "{b}"]' if word == "eltwise" else f'bottom: "{b}"'
                       for b in (last, "c"))  # fmt: skip
        apart += f'{word} "l{i}" {{ {read}  {fields} }} '
        over += f'{word} "l{i}" {{ {again}  top: "c"  {fields} }} '
        last = f"l{i}"
    x = {"data": np.abs(drawn(2, 3, 4, 4)) + 1}
    (a,) = net.whole(apart, x, [last])
    (b,) = net.whole(over, x, ["c"])
    np.testing.assert_array_equal(a, b)
    for refused in ("abs", "flatten", "reshape { shape { dim: [0, 3, 4, 4] } }"):
        word, _, rest = refused.partition(" {")
        text = (
            f'input "data" {{ shape: 3x4x4 }} {word} {{ bottom: "data"  top: "data" {rest or "}"}'
        )
        with pytest.raises(SpecErrors, match="cannot work in place"):
            net.shapes(text, 1)


def test_a_blob_that_is_read_twice_adds_its_gradients(net: Any, drawn: Any) -> None:
    x = drawn(2, 3)
    text = """
        input "data" { shape: 3 }
        fc "f" { num_output: 2 }
        reduction "a" { bottom: "f"  operation: SUMSQ  loss_weight: 1 }
        reduction "b" { bottom: "f"  operation: SUM  loss_weight: 3 }
    """
    given = {"f.weight": drawn(2, 3), "f.bias": drawn(2)}
    (w_bar,) = net.whole(text, {"data": x}, [], given=given, gradients=["f.weight"])
    y = x @ given["f.weight"].T + given["f.bias"]
    np.testing.assert_allclose(w_bar, (2 * y + 3).T @ x, rtol=1e-4)


def test_shared_parameters_are_one(net: Any, drawn: Any) -> None:
    x = drawn(2, 4)
    text = """
        input "data" { shape: 4 }
        fc "a" { num_output: 4  bias_term: false  param { name: "w"  lr_mult: 2 } }
        fc "b" { num_output: 4  bias_term: false  param { name: "w" } }
    """
    w = drawn(4, 4)
    (y,) = net.compiled(text, {"data": x}, weights={"w": w})
    np.testing.assert_allclose(y, x @ w.T @ w.T, rtol=1e-4, atol=1e-5)
    (parameter,) = elaborate(net.spec(text)).train.net.parameters
    assert (parameter.lr_mult, parameter.numel) == (2, 16)


def test_shared_parameters_may_differ_in_shape_if_permissive(net: Any, drawn: Any) -> None:
    x, w = drawn(2, 4), drawn(6, 4)
    text = """
        input "data" { shape: 4 }
        fc "a" { bottom: "data"  num_output: 6  bias_term: false  param { name: "w" } }
        fc "b" { bottom: "a"  num_output: 4  bias_term: false
                 param { name: "w"  share_mode: PERMISSIVE } }
    """
    (y,) = net.compiled(text, {"data": x}, weights={"w": w})
    np.testing.assert_allclose(y, x @ w.T @ w.reshape(4, 6).T, rtol=1e-4, atol=1e-5)
    with pytest.raises(SpecErrors, match="is shared, but is 6x4 there and 4x6 here"):
        net.shapes(text.replace("PERMISSIVE", "STRICT"), 1)
    with pytest.raises(SpecErrors, match="is shared, but holds 24 values there and 30 here"):
        net.shapes(text.replace("num_output: 4", "num_output: 5"), 1)


def test_propagate_down_false_stops_the_gradient(net: Any, drawn: Any) -> None:
    x = drawn(2, 4)
    text = """
        input "data" { shape: 4 }
        fc "a" { num_output: 3 }
        fc "b" { bottom: "a"  num_output: 2  propagate_down: GOES }
        eltwise "both" { bottom: ["b", "b"]  coeff: [1, 2]  propagate_down: [true, false] }
        reduction { operation: SUM  loss_weight: 1 }
        reduction { bottom: "a"  operation: SUM  loss_weight: 1 }
    """
    given = {
        "a.weight": drawn(3, 4),
        "a.bias": drawn(3),
        "b.weight": drawn(2, 3),
        "b.bias": drawn(2),
    }
    for goes in ("true", "false"):
        a_bar, b_bar = net.whole(
            text.replace("GOES", goes), {"data": x}, [], given=given,
            gradients=["a.weight", "b.weight"], training=True,
        )  # fmt: skip
        a = x @ given["a.weight"].T + given["a.bias"]
        np.testing.assert_allclose(b_bar, np.tile(a.sum(0), (2, 1)), rtol=1e-4, atol=1e-5)
        y_bar = np.ones((2, 3)) + (given["b.weight"].sum(0) if goes == "true" else 0)
        np.testing.assert_allclose(a_bar, y_bar.T @ x, rtol=1e-4, atol=1e-5)
    with pytest.raises(SpecErrors, match="has 2 propagate_down"):
        net.shapes(text.replace("GOES", "[true, false]"), 1)


def test_loss_weight_on_any_top_counts_all_of_its_values(net: Any, drawn: Any) -> None:
    x = drawn(2, 4)
    text = """
        input "data" { shape: 4 }
        fc "f" { num_output: 4  loss_weight: 0.5 }
        slice { top: ["a", "b"]  loss_weight: [0, 3] }
    """
    given = {"f.weight": drawn(4, 4), "f.bias": drawn(4)}
    (b_bar,) = net.whole(text, {"data": x}, [], given=given, gradients=["f.bias"])
    np.testing.assert_allclose(b_bar, [1, 1, 7, 7])
    nodes = elaborate(net.spec(text)).train.net.nodes
    assert [node.weighed for node in nodes] == [(), (("f", 0.5),), (("b", 3.0),)]


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


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("", [[[3]], [[1]]]),
        ("top_k: 2", [[[3, 1]], [[1, 0]]]),
        ("top_k: 2  out_max_val: true", [[[3, 1], [5, 5]], [[1, 0], [9, 8]]]),
        ("axis: 1  top_k: 2", [[3, 1], [1, 0]]),
        ("axis: 1  out_max_val: true", [[5], [9]]),
    ],
)
def test_argmax_takes_the_last_of_equals(fields: str, expected: Any, net: Any) -> None:
    x = np.array([[1, 5, 2, 5], [8, 9, 0, 0]])
    (y,) = net.compiled(f'input "data" {{ shape: 4 }} argmax {{ {fields} }}', {"data": x})
    np.testing.assert_array_equal(y, expected)


def test_threshold_is_strict(net: Any) -> None:
    text = 'input "data" { shape: 3 } threshold { threshold: 0.5 }'
    (y,) = net.compiled(text, {"data": np.array([[0.4, 0.5, 0.6]])})
    np.testing.assert_array_equal(y, [[0, 0, 1]])


def test_batch_reindex_picks_samples(net: Any, drawn: Any) -> None:
    x = drawn(3, 2, 2)
    text = """
        input "data" { shape: 2x2 }
        input "order" { shape: 1 }
        batch_reindex { bottom: "data"  bottom: "order" }
    """
    (y,) = net.compiled(text, {"data": x, "order": np.array([[2], [0], [2]])})
    np.testing.assert_array_equal(y, x[[2, 0, 2]])


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


def test_dummy_data_fills_constants_once_and_draws_the_rest(net: Any) -> None:
    text = """
        dummy_data "d" {
          top: ["a", "b", "c"]
          shape { dim: [50, 40] }
          data_filler { value: 3 }
          data_filler { type: gaussian  mean: 2  std: 0.5 }
          data_filler { type: uniform  min: -1  max: 2 }
        }
        eltwise "sum" { bottom: ["a", "b", "c"] }
    """
    net_made = elaborate(net.spec(text)).train.net
    assert [type.shape for type in net_made.nodes[0].top_types] == [(50, 40)] * 3
    for training in (False, True):
        a, b, c = net.whole(text, {"": [0]}, ["a", "b", "c"], training=training)
        np.testing.assert_array_equal(a, np.full((50, 40), 3))
        assert (b.mean(), b.std()) == (pytest.approx(2, abs=0.05), pytest.approx(0.5, rel=0.05))
        assert -1 <= c.min() < -0.9 < 1.9 < c.max() < 2
    with pytest.raises(SpecErrors, match="2 for 3 tops: takes one for all, or one for each"):
        net.shapes(text.replace("data_filler { value: 3 }", ""), 1)


def test_power_without_x_is_a_constant(net: Any, drawn: Any) -> None:
    x = drawn(2, 3)
    for fields, value in (("scale: 0  shift: 3  power: 2", 9), ("power: 0", 1)):
        (y,) = net.compiled(f'input "data" {{ shape: 3 }} power {{ {fields} }}', {"data": x})
        np.testing.assert_array_equal(y, np.full((2, 3), value))


def test_mvn_adds_eps_to_the_deviation(net: Any, drawn: Any) -> None:
    x = drawn(2, 3, 4, 5)
    (y,) = net.compiled('input "data" { shape: 3x4x5 } mvn { eps: 0.5 }', {"data": x})
    mean, deviation = (f(x, axis=(2, 3), keepdims=True) for f in (np.mean, np.std))
    np.testing.assert_allclose(y, (x - mean) / (deviation + 0.5), rtol=1e-4, atol=1e-5)


def test_reduction_coefficients_and_axes(net: Any, drawn: Any) -> None:
    x = drawn(2, 3, 4)
    made = {"SUM": x, "ASUM": np.abs(x), "SUMSQ": x**2, "MEAN": x}
    for (word, cells), axis in product(made.items(), (0, 1, -1)):
        text = f"""
            input "data" {{ shape: 3x4 }}
            reduction "r" {{ operation: {word}  axis: {axis}  coeff: -2 }}
        """
        (y,) = net.whole(text, {"data": x}, ["r"])
        rest = tuple(range(axis % 3, 3))
        expected = -2 * (cells.mean(rest) if word == "MEAN" else cells.sum(rest))
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_contrastive_loss_of_either_version(net: Any, drawn: Any) -> None:
    a, b, alike = drawn(6, 3), drawn(6, 3), np.array([1, 0, 0, 1, 0, 0])
    square = ((a - b) ** 2).sum(1)
    for legacy, far in (
        (False, np.maximum(2 - np.sqrt(square), 0) ** 2),
        (True, np.maximum(2 - square, 0)),
    ):
        text = f"""
            input "a" {{ shape: 3 }}
            input "b" {{ shape: 3 }}
            contrastive_loss "l" {{ bottom: ["a", "b", "label"]  margin: 2
                                   legacy_version: {str(legacy).lower()} }}
        """
        (loss,) = net.whole(text, {"a": a, "b": b, "label": alike}, ["l"])
        assert float(loss) == pytest.approx(np.where(alike, square, far).sum() / 12, rel=1e-5)


@pytest.mark.parametrize("norm", ["L1", "L2"])
def test_hinge_loss_is_one_against_all(norm: str, net: Any, drawn: Any) -> None:
    x, label = drawn(4, 3), np.array([0, 2, 1, 2])
    text = (
        f'input "data" {{ shape: 3 }} hinge_loss "l" {{ norm: {norm}  bottom: ["data", "label"] }}'
    )
    (loss,) = net.whole(text, {"data": x, "label": label}, ["l"])
    sign = np.where(np.eye(3)[label] > 0, 1, -1)
    term = np.maximum(0, 1 - sign * x)
    assert float(loss) == pytest.approx((term ** (1 if norm == "L1" else 2)).sum() / 4, rel=1e-5)
