"""Caffe's normalising layers, and scale and bias, against the formulas in numpy."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest


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


def test_mvn_adds_eps_to_the_deviation(net: Any, drawn: Any) -> None:
    x = drawn(2, 3, 4, 5)
    (y,) = net.compiled('input "data" { shape: 3x4x5 } mvn { eps: 0.5 }', {"data": x})
    mean, deviation = (f(x, axis=(2, 3), keepdims=True) for f in (np.mean, np.std))
    np.testing.assert_allclose(y, (x - mean) / (deviation + 0.5), rtol=1e-4, atol=1e-5)
