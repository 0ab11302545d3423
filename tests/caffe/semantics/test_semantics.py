"""Caffe's other layers where compilers err, against the formulas in numpy."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from netspec.compiler import elaborate
from netspec.diagnostics import SpecErrors
from netspec.ir.filler import Filler


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


def test_sparse_gaussians_connect_some_inputs() -> None:
    x = Filler(type="gaussian", std=2, sparse=5).sample((50, 400), np.random.default_rng(0))
    assert (x != 0).mean() == pytest.approx(5 / 50, rel=0.05)
    assert x[x != 0].std() == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize(
    ("filler", "said"),
    [("type: gaussian  sparse: 9", "sparse 9 of the 4 of 4x3"),
     ("type: xavier  sparse: 2", "gaussian alone may be sparse, not xavier"),
     ("type: gaussian  sparse: -2", "must be at least -1, not -2")],
)  # fmt: skip
def test_sparse_fillers_that_cannot_be(filler: str, said: str, net: Any) -> None:
    with pytest.raises(SpecErrors) as error:
        net.shapes(
            f'input "data" {{ shape: 3 }} fc {{ num_output: 4 weight_filler {{ {filler} }} }}', 1
        )
    assert said in str(error.value)
