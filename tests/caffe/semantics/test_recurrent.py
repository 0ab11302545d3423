"""LSTM, RNN and embed against Caffe's formulas in numpy, and by PyTorch's gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netspec.ir.layer import ShapeError
from netspec.ir.types import TensorType
from netspec.layers import LAYERS

STEPS, STREAMS, INPUTS, STATIC, HIDDEN = 5, 3, 4, 2, 6
GATES = {"lstm": 4, "rnn": 1}
FIELDS = "num_output: 6  weight_filler { type: gaussian  std: 0.5 }  bias_filler { type: gaussian }"


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def text(kind: str, *, static: bool, expose: bool, inputs: str = "2x2") -> str:
    states = ["h0", "c0"][: GATES[kind] // 4 + 1] if expose else []
    bottoms = ["data", "cont", *(["static"] if static else []), *states]
    tops = ["y", *(f"{name[0]}n" for name in states)]
    return f"""
        input "data" {{ shape: {STREAMS}x{inputs} }}
        input "cont" {{ shape: {STREAMS} }}
        {'parameter "static" { shape: 3x2 }' if static else ""}
        {"".join(f'parameter "{s}" {{ shape: 1x3x6 }} ' for s in states)}
        {kind} "r" {{ bottom: [{", ".join(f'"{b}"' for b in bottoms)}]
              top: [{", ".join(f'"{t}"' for t in tops)}]
              {FIELDS}  expose_hidden: {"true" if expose else "false"} }}
        reduction {{ bottom: "y"  operation: SUMSQ  loss_weight: 0.5 }}
    """


def given(kind: str, *, static: bool, expose: bool) -> dict[str, np.ndarray]:
    """Weights by name, in Caffe's order and layout."""
    generator = np.random.default_rng(3)
    rows = GATES[kind] * HIDDEN
    shapes: dict[str, tuple[int, ...]] = {"weight": (rows, INPUTS), "bias": (rows,)}
    shapes |= {"weight_static": (rows, STATIC)} if static else {}
    shapes |= {"weight_hidden": (rows, HIDDEN)}
    if kind == "rnn":
        shapes |= {"weight_out": (HIDDEN, HIDDEN), "bias_out": (HIDDEN,)}
    named = {f"r.{name}": shape for name, shape in shapes.items()}
    if static:
        named["static.weight"] = (STREAMS, STATIC)
    if expose:
        named |= {f"{s}.weight": (1, STREAMS, HIDDEN) for s in ("h0", "c0")[: GATES[kind] // 4 + 1]}
    return {n: generator.normal(size=s).astype(np.float32) / 2 for n, s in named.items()}


def by_hand(kind: str, x: Any, cont: Any, w: dict[str, Any]) -> tuple[Any, ...]:
    """Caffe's `lstm_layer.cpp` and `rnn_layer.cpp`; the last state behind what is put out."""
    h = w.get("h0.weight", np.zeros((1, STREAMS, HIDDEN)))[0].astype(np.float64)
    c = w.get("c0.weight", np.zeros((1, STREAMS, HIDDEN)))[0].astype(np.float64)
    made = []
    for step in range(len(x)):
        on = cont[step][:, None]
        gates = x[step].reshape(STREAMS, -1) @ w["r.weight"].T + w["r.bias"]
        if "static.weight" in w:
            gates = gates + w["static.weight"] @ w["r.weight_static"].T
        gates = gates + (on * h) @ w["r.weight_hidden"].T
        if kind == "lstm":
            i, f, o, g = np.split(gates, 4, axis=1)
            c = np.where(on == 0, 0, sigmoid(f) * c) + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            made.append(h)
        else:
            h = np.tanh(gates)
            made.append(np.tanh(h @ w["r.weight_out"].T + w["r.bias_out"]))
    return (np.stack(made), h[None], c[None]) if kind == "lstm" else (np.stack(made), h[None])


@pytest.fixture
def fed(drawn: Any) -> dict[str, np.ndarray]:
    cont = np.ones((STEPS, STREAMS), np.float32)
    cont[0], cont[2, 1], cont[4, 0] = 0, 0, 0
    return {"data": drawn(STEPS, STREAMS, 2, 2), "cont": cont}


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("expose", [False, True])
@pytest.mark.parametrize("goes_on", [False, True])
def test_streams_begin_anew_where_cont_is_0(
    kind: str, static: bool, expose: bool, goes_on: bool, net: Any, fed: Any
) -> None:
    w = given(kind, static=static, expose=expose)
    fed["cont"][0] = float(goes_on)
    expected = by_hand(kind, fed["data"], fed["cont"], w)
    wanted = ["y", *(["hn", "cn"][: GATES[kind] // 4 + 1] if expose else [])]
    source = text(kind, static=static, expose=expose)
    made = net.whole(source, fed, wanted, given=w)
    for name, a, b in zip(wanted, made, expected, strict=False):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("kind", GATES)
def test_compiled_at_a_fixed_length(kind: str, net: Any, fed: Any) -> None:
    w = given(kind, static=False, expose=False)
    source = text(kind, static=False, expose=False)
    (y,) = net.compiled(source, fed, weights=w, outputs=["y"], fixed=True)
    expected, *_ = by_hand(kind, fed["data"], fed["cont"], w)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize("kind", GATES)
def test_gradients_are_pytorchs(kind: str, net: Any, fed: Any) -> None:
    torch = pytest.importorskip("torch")
    w = given(kind, static=True, expose=True)
    names = ["data", *w]
    source = text(kind, static=True, expose=True)
    pulled = net.whole(source, fed, [], given=w, training=True, gradients=names)
    leaves = {n: torch.tensor({**w, **fed}[n], requires_grad=True) for n in names}
    t = {n: v.T if n.startswith("r.weight") else v for n, v in leaves.items()}
    cont = torch.tensor(fed["cont"])
    h, c, total = t["h0.weight"][0], t.get("c0.weight", [0])[0], 0.0
    for step in range(STEPS):
        on = cont[step][:, None]
        gates = leaves["data"][step].reshape(STREAMS, -1) @ t["r.weight"] + t["r.bias"]
        gates = gates + t["static.weight"] @ t["r.weight_static"] + (on * h) @ t["r.weight_hidden"]
        if kind == "lstm":
            i, f, o, g = gates.split(HIDDEN, 1)
            c = on * f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = y = o.sigmoid() * c.tanh()
        else:
            h = gates.tanh()
            y = (h @ t["r.weight_out"] + t["r.bias_out"]).tanh()
        total = total + (y**2).sum() / 2
    total.backward()
    for name, gradient in zip(names, pulled, strict=True):
        expected = leaves[name].grad.numpy()
        np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4, err_msg=name)


def test_parameters_and_macs() -> None:
    bottoms = [TensorType((5, 3, 4)), TensorType((5, 3)), TensorType((3, 2))]
    lstm, rnn = LAYERS["lstm"](num_output=6), LAYERS["rnn"](num_output=6)
    assert lstm.parameters(bottoms) == 24 * (4 + 1 + 2 + 6)
    assert rnn.parameters(bottoms) == 6 * (4 + 1 + 2 + 6) + 6 * 6 + 6
    assert lstm.macs(bottoms) == 3 * 24 * (5 * (4 + 6) + 2)
    assert rnn.macs(bottoms) == 3 * 6 * (5 * (4 + 6) + 2) + 5 * 3 * 36


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        ({}, [(5, 3, 4), (5, 2)], "cont must be 5x3, not 5x2"),
        ({}, [(5, 3), (5, 3)], "takes steps x streams x values, not 5x3"),
        ({}, [(2000, 3, 4), (2000, 3)], "2000 steps: at most 1024"),
        ({}, [(5, 3, 4), (5, 3), (4, 2)], "the static input is 4x2, for 3 streams"),
        ({}, [(5, 3, 4), (5, 3), (3, 2), (1, 3, 6)], "2 or 3 blobs, not 4"),
        ({"expose_hidden": True}, [(5, 3, 4), (5, 3)], "4 or 5 blobs, not 2"),
        (
            {"expose_hidden": True},
            [(5, 3, 4), (5, 3), (1, 3, 6), (1, 3, 5)],
            "a state must be 1x3x6, not 1x3x5",
        ),
    ],
)
def test_refused(fields: Any, shapes: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        LAYERS["lstm"](num_output=6, **fields).infer([TensorType(s) for s in shapes])


def test_lstm_unit_refuses() -> None:
    unit = LAYERS["lstm_unit"]()
    with pytest.raises(ShapeError, match="gates must be 1x3x24, not 1x3x6"):
        unit.infer([TensorType((1, 3, 6)), TensorType((1, 3, 6)), TensorType((1, 3))])
    with pytest.raises(ShapeError, match="takes a memory of steps x streams x values, not 3x6"):
        unit.infer([TensorType((3, 6)), TensorType((1, 3, 6)), TensorType((1, 3))])


def test_lstm_unit_is_a_step(net: Any, drawn: Any) -> None:
    c, gates = drawn(1, 3, 2), drawn(1, 3, 8)
    cont = np.array([[1, 0, 1]], np.float32)
    source = """
        input "c" { shape: 3x2 }
        input "gates" { shape: 3x8 }
        input "cont" { shape: 3 }
        lstm_unit { bottom: ["c", "gates", "cont"]  top: "c2"  top: "h2" }
    """
    made = net.whole(source, {"c": c, "gates": gates, "cont": cont}, ["c2", "h2"])
    i, f, o, g = np.split(gates, 4, axis=2)
    new = cont[..., None] * sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    np.testing.assert_allclose(made[0], new, rtol=1e-5)
    np.testing.assert_allclose(made[1], sigmoid(o) * np.tanh(new), rtol=1e-5)


def test_embed_looks_up_integer_valued_floats(net: Any, drawn: Any) -> None:
    words = np.array([[0, 4, 2], [2, 2, 1]], np.float32)
    weight, bias = drawn(5, 4), drawn(4)
    source = 'input "data" { shape: 3 } embed "e" { num_output: 4  input_dim: 5 }'
    weights = {"e.weight": weight, "e.bias": bias}
    (y,) = net.compiled(source, {"data": words}, weights=weights)
    np.testing.assert_allclose(y, weight[words.astype(int)] + bias, rtol=1e-6)


def test_the_gradient_of_embed_adds_up(net: Any, drawn: Any) -> None:
    words = np.array([[0, 4, 2], [2, 2, 1]], np.float32)
    source = """
        input "data" { shape: 3 }
        embed "e" { num_output: 4  input_dim: 5  bias_term: false }
        reduction { operation: SUM  loss_weight: 2 }
    """
    (w_bar,) = net.whole(source, {"data": words}, [], gradients=["e.weight"])
    counts = np.bincount(words.astype(int).ravel(), minlength=5)
    np.testing.assert_array_equal(w_bar, np.tile(2.0 * counts[:, None], 4))
