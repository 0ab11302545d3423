"""What `grad` does with graphs: several paths, several outputs, several seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netspec.autodiff import grad
from netspec.codegen.builder import Builder
from netspec.ir.types import TensorType

VECTOR = TensorType((3,))


@pytest.fixture
def op() -> Builder:
    return Builder()


def test_a_value_used_twice_collects_both(op: Builder, run: Any) -> None:
    x, seed = op.input("x", VECTOR), op.input("seed", VECTOR)
    y = op.Mul(x, op.Add(x, op.Exp(x)))
    (x_bar,) = grad(op, tuple(op.ops), {y: seed}, [x])
    a, s = np.array([0.5, -1, 2], "float32"), np.array([1, 2, 3], "float32")
    (got,) = run(op, [x_bar], {"x": a, "seed": s})
    np.testing.assert_allclose(got, s * (2 * a + np.exp(a) + a * np.exp(a)), rtol=1e-6)


def test_an_operand_on_both_sides_counts_twice(op: Builder, run: Any) -> None:
    x, seed = op.input("x", VECTOR), op.input("seed", VECTOR)
    y = op.Mul(x, x)
    (x_bar,) = grad(op, tuple(op.ops), {y: seed}, [x])
    a = np.array([0.5, -1, 2], "float32")
    (got,) = run(op, [x_bar], {"x": a, "seed": np.ones(3, "float32")})
    np.testing.assert_array_equal(got, 2 * a)


def test_a_sum_of_one_value_is_its_double(op: Builder, run: Any) -> None:
    x, seed = op.input("x", VECTOR), op.input("seed", VECTOR)
    y = op.Add(x, x)
    (x_bar,) = grad(op, tuple(op.ops), {y: seed}, [x])
    feeds = {"x": np.zeros(3, "float32"), "seed": np.arange(3, dtype="float32")}
    np.testing.assert_array_equal(run(op, [x_bar], feeds)[0], [0, 2, 4])


def test_seeds_of_an_inner_value_and_of_the_result_add_up(op: Builder, run: Any) -> None:
    x, s, t = (op.input(name, VECTOR) for name in "xst")
    y = op.Exp(x)
    z = op.Neg(y)
    (x_bar,) = grad(op, tuple(op.ops), {y: s, z: t}, [x])
    feeds = {"x": np.zeros(3, "float32"), "s": np.full(3, 5, "float32"), "t": np.ones(3, "float32")}
    np.testing.assert_array_equal(run(op, [x_bar], feeds)[0], np.full(3, 4))


def test_a_seeded_input_gets_its_seed_beside_the_rest(op: Builder, run: Any) -> None:
    x, s, t = (op.input(name, VECTOR) for name in "xst")
    y = op.Neg(x)
    (x_bar,) = grad(op, tuple(op.ops), {x: s, y: t}, [x])
    feeds = {name: np.full(3, n, "float32") for n, name in enumerate("xst", 1)}
    np.testing.assert_array_equal(run(op, [x_bar], feeds)[0], np.full(3, -1))


def test_returned_cotangents_are_values_of_their_own(op: Builder, run: Any) -> None:
    a, b, c = (op.input(name, VECTOR) for name in "abc")
    y = op.Sum(a, b, c)
    seed = op.constant(np.arange(3, dtype="float32"))
    bars = grad(op, tuple(op.ops), {y: seed}, [a, b, c, y])
    assert len({*bars, seed}) == 5
    for got in run(op, bars, {name: np.zeros(3, "float32") for name in "abc"}):
        np.testing.assert_array_equal(got, np.arange(3))


def test_what_no_seed_depends_on_has_no_cotangent(op: Builder) -> None:
    x, other, seed = (op.input(name, VECTOR) for name in ("x", "other", "seed"))
    y = op.Neg(x)
    op.Exp(other)
    before = len(op.ops)
    assert grad(op, tuple(op.ops), {y: seed}, [other]) == [None]
    assert len(op.ops) == before


def test_only_the_way_to_what_is_wanted_is_differentiated(op: Builder) -> None:
    x, w, v, seed = (op.input(name, TensorType((2, 2))) for name in ("x", "w", "v", "seed"))
    y = op.MatMul(op.MatMul(x, w), v)
    before = len(op.ops)
    grad(op, tuple(op.ops), {y: seed}, [v])
    assert [node.op_type for node in op.ops[before:]] == ["FusedMatMul"]


def test_an_output_without_cotangent_counts_as_zero(op: Builder, run: Any) -> None:
    x = op.input("x", TensorType((2, 6)))
    _, middle, _ = op.Split(x, op.ints(1, 2, 3), outputs=3, axis=1)
    (x_bar,) = grad(op, tuple(op.ops), {middle: op.input("seed", middle.type)}, [x])
    (got,) = run(
        op, [x_bar], {"x": np.zeros((2, 6), "float32"), "seed": np.ones((2, 2), "float32")}
    )
    np.testing.assert_array_equal(got, [[0, 1, 1, 0, 0, 0]] * 2)


def test_nothing_flows_through_integers_and_booleans(op: Builder) -> None:
    x, seed = op.input("x", VECTOR), op.input("seed", VECTOR)
    y = op.Cast(op.Add(op.Cast(op.Greater(x, op.scalar(0)), to="int64"), op.ints(1)), to="float32")
    assert grad(op, tuple(op.ops), {y: seed}, [x]) == [None]


def test_an_operator_without_rule_is_named(op: Builder) -> None:
    x, seed = op.input("x", VECTOR), op.input("seed", VECTOR)
    y = op.Atan(x)
    with pytest.raises(AssertionError, match="Atan has no gradient rule"):
        grad(op, tuple(op.ops), {y: seed}, [x])
