"""What Caffe does between layers: in place, shared weights, stopped gradients, loss_weight."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netspec.compiler import elaborate
from netspec.diagnostics import SpecErrors


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
