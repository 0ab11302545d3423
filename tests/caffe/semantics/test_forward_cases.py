"""Every forward case of Caffe's unit tests, written as native text, compiled and run."""

from __future__ import annotations

from itertools import product
from math import sqrt
from typing import Any

import numpy as np
import pytest

from netspec.ir.filler import Filler

COVERED: set[str] = set()


def case(cases: Any, name: str) -> dict[str, Any]:
    COVERED.add(name)
    return cases[name]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("pool_max_2x2_s1", "kernel_size: 2"),
        ("pool_max_3x2_s1", "kernel_h: 3  kernel_w: 2"),
        ("pool_max_2x3_s1", "kernel_h: 2  kernel_w: 3"),
    ],
)
def test_max_pooling_and_its_mask(name: str, fields: str, net: Any, cases: Any) -> None:
    known = case(cases, name)
    plane = np.array(known["input"], np.float32)
    x = np.tile(plane, (3, 2, 1, 1))
    text = f"""
        input "data" {{ shape: 2x{plane.shape[0]}x{plane.shape[1]} }}
        pool "p" {{ pool: MAX  {fields}  stride: 1  top: "p"  top: "mask" }}
    """
    y, mask = net.compiled(text, {"data": x}, outputs=["p", "mask"])
    for sample, channel in product(range(3), range(2)):
        np.testing.assert_array_equal(y[sample, channel], known["expected"])
        np.testing.assert_array_equal(mask[sample, channel], known["mask"])


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("pool_max_pad2", "pool: MAX  kernel_size: 3  stride: 2  pad: 2"),
        ("pool_ave_pad1", "pool: AVE  kernel_size: 3  stride: 1  pad: 1"),
    ],
)
def test_padded_pooling(name: str, fields: str, net: Any, cases: Any) -> None:
    known = case(cases, name)
    x = np.tile(np.array(known["input"], np.float32), (2, 3, 1, 1))
    (y,) = net.compiled(f'input "data" {{ shape: 3x3x3 }} pool {{ {fields} }}', {"data": x})
    expected = np.tile(known["expected"], (2, 3, 1, 1))
    np.testing.assert_allclose(y, expected, atol=known.get("tol", 0))


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("pool_setup", "pool { kernel_size: 3  stride: 2 }"),
        ("pool_setup_padded", "pool { pool: AVE  kernel_size: 3  stride: 2  pad: 1 }"),
        ("pool_global", "pool { pool: AVE  global_pooling: true }"),
        ("deconv_setup", "deconv { num_output: 4  kernel_size: 3  stride: 2 }"),
        ("conv_setup", "conv { num_output: 4  kernel_size: 3  stride: 2 }"),
        ("spp", "spp { pyramid_height: 3 }"),
        ("spp5", "spp { pyramid_height: 5 }"),
        ("embed", "embed { num_output: 10  input_dim: 5 }"),
        ("reshape_insert_start", "reshape { axis: 0  num_axes: 0  shape { dim: [1, 1, 1] } }"),
        ("reshape_insert_mid", "reshape { axis: 2  num_axes: 0  shape { dim: [1, 1, 1] } }"),
        ("reshape_insert_end", "reshape { axis: -1  num_axes: 0  shape { dim: [1, 1, 1] } }"),
        ("reshape_flatten_mid", "reshape { axis: 1  num_axes: 2  shape { dim: -1 } }"),
        ("reshape_infer", "reshape { shape { dim: [0, 3, 10, -1] } }"),
        ("argmax_default", "argmax"),
        ("argmax_maxval", "argmax { out_max_val: true }"),
    ],
)
def test_shapes(name: str, layer: str, net: Any, cases: Any, drawn: Any) -> None:
    known = case(cases, name)
    batch, *sample = known["in_shape"]
    text = f'input "data" {{ shape: {"x".join(map(str, sample))} }} {layer}'
    x = drawn(batch, *sample)
    if name == "embed":
        x = np.abs(x).astype(int) % 5
    (y,) = net.compiled(text, {"data": x}, fixed=name == "reshape_insert_start")
    assert list(y.shape) == known["out_shape"]


def test_deconvolution_of_ones(net: Any, cases: Any) -> None:
    known = case(cases, "deconv_simple")
    text = """
        input "data" { shape: 3x6x4 }
        deconv { num_output: 4  kernel_size: 3  stride: 2
                 weight_filler { value: 1 }  bias_filler { value: 0.1 } }
    """
    (y,) = net.compiled(text, {"data": np.ones(known["in_shape"])})
    for h, w in product(range(13), range(9)):
        inner = (h % 2 == 0 and 0 < h < 12) + (w % 2 == 0 and 0 < w < 8)
        np.testing.assert_allclose(y[:, :, h, w], 3.1 + (0, 3, 9)[inner], atol=known["tol"])


def test_sobel_in_one_convolution_and_in_two(net: Any, cases: Any, drawn: Any) -> None:
    known = case(cases, "conv_sobel")
    x = {"data": drawn(2, 3, 6, 4)}
    whole = """
        input "data" { shape: 3x6x4 }
        conv "c" { num_output: 1  kernel_size: 3  stride: 2  bias_term: false }
    """
    sobel = np.outer([1, 2, 1], [-1, 0, 1]).astype(np.float32)
    (y,) = net.compiled(whole, x, weights={"c.weight": np.tile(sobel, (1, 3, 1, 1))})
    parts = """
        input "data" { shape: 3x6x4 }
        conv "a" { num_output: 1  kernel_size: 3x1  stride: 2x1  bias_term: false }
        conv "b" { num_output: 1  kernel_size: 1x3  stride: 1x2  bias_term: false }
    """
    column = np.tile(np.array([1, 2, 1], np.float32).reshape(1, 1, 3, 1), (1, 3, 1, 1))
    row = np.array([-1, 0, 1], np.float32).reshape(1, 1, 1, 3)
    (z,) = net.compiled(parts, x, weights={"a.weight": column, "b.weight": row})
    np.testing.assert_allclose(y, z, atol=known["tol"])


def test_eltwise_coefficients(net: Any, cases: Any, drawn: Any) -> None:
    known = case(cases, "eltwise_coeff")
    a, b, c = (drawn(2, 3, 4, 5) for _ in range(3))
    text = """
        input "a" { shape: 3x4x5 }
        input "b" { shape: 3x4x5 }
        input "c" { shape: 3x4x5 }
        eltwise { bottom: ["a", "b", "c"]  coeff: [1, -0.5, 2] }
    """
    (y,) = net.compiled(text, {"a": a, "b": b, "c": c})
    np.testing.assert_allclose(y, a - 0.5 * b + 2 * c, atol=known["tol"])


@pytest.mark.parametrize("size", [5, 15])
def test_lrn_across_channels(size: int, net: Any, cases: Any, drawn: Any) -> None:
    known = case(cases, "lrn_ref")
    x = drawn(2, 7, 3, 3)
    (y,) = net.compiled(
        f'input "data" {{ shape: 7x3x3 }} lrn {{ local_size: {size} }}', {"data": x}
    )
    around = [x[:, max(0, c - size // 2) : c + size // 2 + 1] for c in range(7)]
    total = np.stack([(part**2).sum(1) for part in around], 1)
    np.testing.assert_allclose(y, x / (1 + total / size) ** 0.75, atol=known["tol"])


def test_lrn_within_a_channel(net: Any, cases: Any, drawn: Any) -> None:
    known = case(cases, "lrn_ref")
    x = drawn(2, 3, 6, 7)
    text = 'input "data" { shape: 3x6x7 } lrn { local_size: 5  norm_region: WITHIN_CHANNEL }'
    (y,) = net.compiled(text, {"data": x})
    for h, w in product(range(6), range(7)):
        part = x[:, :, max(0, h - 2) : h + 3, max(0, w - 2) : w + 3]
        expected = x[:, :, h, w] / (1 + (part**2).sum((2, 3)) / 25) ** 0.75
        np.testing.assert_allclose(y[:, :, h, w], expected, atol=known["tol"])


def test_batch_norm_in_training(net: Any, cases: Any, drawn: Any) -> None:
    known = case(cases, "bn_train")
    x = 3 * drawn(*known["in_shape"]) + 1
    text = """
        input "data" { shape: 2x3x4 }
        batch_norm "bn" { affine: false  moving_average_fraction: 0.999 }
    """
    (y,) = net.whole(text, {"data": x}, ["bn"], training=True)
    np.testing.assert_allclose(y.mean((0, 2, 3)), 0, atol=known["tol"])
    np.testing.assert_allclose((y**2).mean((0, 2, 3)), 1, atol=known["tol"])


@pytest.mark.parametrize(
    ("fields", "axes", "variance"),
    [("", (2, 3), 1), ("normalize_variance: false", (2, 3), None),
     ("across_channels: true", (1, 2, 3), 1)],
)  # fmt: skip
def test_mvn(fields: str, axes: Any, variance: Any, net: Any, cases: Any, drawn: Any) -> None:
    known = case(cases, "mvn")
    text = f'input "data" {{ shape: 3x4x5 }} mvn {{ {fields} }}'
    (y,) = net.compiled(text, {"data": 2 * drawn(2, 3, 4, 5) + 1})
    np.testing.assert_allclose(y.mean(axes), 0, atol=known["tol"])
    if variance:
        np.testing.assert_allclose((y**2).mean(axes), variance, atol=known["tol"])


def test_accuracy_ignores_a_label(net: Any, cases: Any, drawn: Any) -> None:
    known = case(cases, "accuracy_ignore")
    scores, label = drawn(100, 10), np.arange(100) % 10
    label[[2, 5, 32]] = -1
    text = """
        input "data" { shape: 10 }
        accuracy "a" { bottom: "data"  bottom: "label"  ignore_label: -1 }
    """
    (y,) = net.whole(text, {"data": scores, "label": label}, ["a"])
    right = (scores.argmax(1) == label)[label >= 0]
    assert right.size == 97
    np.testing.assert_allclose(y, right.mean(), atol=known["tol"])


def test_softmax_loss_ignores_a_label(net: Any, cases: Any, drawn: Any) -> None:
    known = case(cases, "softmax_norm")
    feeds = {
        "data": drawn(10, 5, 2, 3),
        "label": np.random.default_rng(1).integers(0, 5, (10, 2, 3)),
    }

    def loss(fields: str) -> float:
        text = f"""
            input "data" {{ shape: 5x2x3 }}
            input "label" {{ shape: 2x3 }}
            softmax_loss "l" {{ bottom: "data"  bottom: "label"  normalize: false  {fields} }}
        """
        (y,) = net.whole(text, feeds, ["l"])
        return float(y)

    ignoring = sum(loss(f"ignore_label: {label}") for label in range(5))
    assert ignoring == pytest.approx(4 * loss(""), abs=known["tol"])


@pytest.mark.parametrize("ratio", [0.5, 0.75])
def test_dropout(ratio: float, net: Any, cases: Any, drawn: Any) -> None:
    case(cases, "dropout")
    x = np.abs(drawn(20, 3, 6, 5)) + 0.1
    text = f'input "data" {{ shape: 3x6x5 }} dropout "d" {{ dropout_ratio: {ratio} }}'
    (y,) = net.whole(text, {"data": x}, ["d"], training=True)
    np.testing.assert_allclose(y[y != 0], (x / (1 - ratio))[y != 0], rtol=1e-6)
    error = sqrt(ratio * (1 - ratio) / x.size)
    assert abs((y == 0).mean() - ratio) < 1.96 * error
    np.testing.assert_array_equal(net.compiled(text, {"data": x})[0], x)


def test_exp_and_log(net: Any, cases: Any, drawn: Any) -> None:
    known = case(cases, "exp_log")
    x = np.abs(drawn(2, 3, 4, 5))
    text = 'input "data" {{ shape: 3x4x5 }} {} {{ base: 2  scale: 3  shift: 1 }}'
    (y,) = net.compiled(text.format("exp"), {"data": x})
    np.testing.assert_allclose(y, 2 ** (1 + 3 * x), rtol=known["tol"])
    (y,) = net.compiled(text.format("log"), {"data": x})
    np.testing.assert_allclose(y, np.log2(1 + 3 * x), rtol=known["tol"])


def test_prelu_starts_at_a_quarter(net: Any, cases: Any, drawn: Any) -> None:
    case(cases, "prelu_default")
    x = drawn(2, 3, 4, 5)
    (y,) = net.compiled('input "data" { shape: 3x4x5 } prelu', {"data": x})
    np.testing.assert_allclose(y, np.where(x > 0, x, 0.25 * x), rtol=1e-6)


SHAPE = (1000, 2, 4, 5)
FANS = [("FAN_IN", 40), ("FAN_OUT", 20_000), ("AVERAGE", 10_020)]


@pytest.mark.parametrize(("norm", "n"), FANS)
@pytest.mark.parametrize(
    ("name", "type", "top"), [("filler_msra", "msra", 2), ("filler_xavier", "xavier", 1)]
)
def test_fillers(name: str, type: Any, top: int, norm: Any, n: float, cases: Any) -> None:
    case(cases, name)
    x = Filler(type=type, variance_norm=norm).sample(SHAPE, np.random.default_rng(0))
    assert x.std() == pytest.approx(sqrt(top / n), rel=0.02)
    assert abs(x.mean()) < 0.1
    if type == "xavier":
        assert np.abs(x).max() <= np.float32(sqrt(3 / n))


@pytest.mark.parametrize(
    ("kernel", "taps"),
    [(4, [0.25, 0.75, 0.75, 0.25]), (3, [0.5, 1, 0.5]), (7, [0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25]),
     (6, [1 / 6, 0.5, 5 / 6, 5 / 6, 0.5, 1 / 6])],
)  # fmt: skip
def test_bilinear_filler(kernel: int, taps: list[float], cases: Any) -> None:
    case(cases, "filler_bilinear")
    x = Filler(type="bilinear").sample((2, 3, kernel, kernel), np.random.default_rng(0))
    np.testing.assert_allclose(x, np.tile(np.outer(taps, taps), (2, 3, 1, 1)), rtol=1e-6)


def test_no_case_is_forgotten(cases: Any, request: pytest.FixtureRequest) -> None:
    if len(request.session.items) < 40:
        pytest.skip("a part of the file alone")
    assert set(cases) == COVERED
