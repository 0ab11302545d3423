"""Half precision as a pass: what is rounded, what is not, and what that saves."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from netspec.autodiff import grad
from netspec.codegen.builder import Builder
from netspec.codegen.emit import emit
from netspec.codegen.halved import Halved
from netspec.codegen.memory import peak
from netspec.codegen.scaling import LossScaling
from netspec.codegen.step import BatchStep, gradient_graph
from netspec.codegen.steps import with_steps
from netspec.codegen.target import CPU_PLAIN, CUDA, Target
from netspec.codegen.update import WeightGroup
from netspec.compiler import elaborate, read
from netspec.ir.graph import Graph, Op
from netspec.ir.net import Net
from netspec.ir.phrases import slope
from netspec.ir.sections import Solver
from netspec.ir.transform import Transform
from netspec.ir.types import TensorType
from netspec.runtime.device import Device
from netspec.runtime.session import make_session

Array = npt.NDArray[Any]


def net_of(text: str, tmp_path: Any, batch: int = 4) -> Net:
    path = tmp_path / "net.net"
    path.write_text(text)
    return elaborate(read(str(path)), batch=batch).train.net


def step_of(net: Net, target: Target = CPU_PLAIN, *, half: bool = True) -> BatchStep:
    """The gradients; the data set is one batch of floats."""
    types = {
        name: TensorType(t.shape, "int64" if name == "label" else "float32")
        for name, t in net.inputs.items()
    }
    transform = net.data.transform if net.data else Transform()
    return gradient_graph(net, types, transform, target, grad, half=half)


def run(step: BatchStep, feeds: dict[str, Array]) -> dict[str, Array]:
    session = make_session(emit(step.graph, names=step.names, check=True), Device("cpu"))
    names = [port.name for port in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def rounded(x: Array) -> Array:
    """To what float16 holds."""
    with np.errstate(over="ignore"):
        return x.astype(np.float16).astype(np.float32)


def precisions(graph: Graph, word: str) -> set[str]:
    """Of the first operand of each operator of that name."""
    return {v.type.dtype for op in graph.ops if op.op_type == word for v in op.inputs[:1] if v}


TWO = """
input "data" { shape: 6 }
fc "one" { num_output: 5 }
relu
fc "two" { num_output: 3 }
softmax_loss
"""


def test_what_is_stored_between_products_is_rounded(tmp_path: Any) -> None:
    """To the bit what numpy makes of it: onnxruntime takes no cast away."""
    net, rng = net_of(TWO, tmp_path), np.random.default_rng(0)
    x, w1, b1, w2, b2 = (
        (rng.integers(-64, 64, shape) / 64).astype(np.float32)
        for shape in ((4, 6), (5, 6), 5, (3, 5), 3)
    )
    x *= np.float32(1 + 2.0**-13)  # more digits than float16 has
    label = np.array([0, 2, 1, 1])
    step = step_of(net)
    made = run(step, {
        "array:data": x, "array:label": label, "indices": np.arange(4), "scale": np.array(8, "f"),
        "weight:one.weight": w1, "weight:one.bias": b1, "weight:two.weight": w2,
        "weight:two.bias": b2,
    })  # fmt: skip
    hidden = np.maximum(rounded(rounded(x) @ w1.T + b1), 0)
    scores = rounded(hidden @ w2.T + b2)
    exps = np.exp(scores.astype(np.float64) - scores.max(1, keepdims=True))
    share = exps / exps.sum(1, keepdims=True)
    assert made["loss"] == pytest.approx(-np.log(share[range(4), label]).mean(), rel=1e-6)
    scores_bar = 8 * (share - np.eye(3)[label]) / 4
    y_bar = rounded(scores_bar.astype(np.float32))
    np.testing.assert_array_equal(made["gradient:two.weight"], rounded(y_bar.T @ hidden))
    np.testing.assert_allclose(made["gradient:two.bias"], scores_bar.sum(0), rtol=1e-5)
    h_bar = np.where(hidden > 0, rounded(y_bar @ w2), 0)
    np.testing.assert_allclose(
        made["gradient:one.weight"], rounded(h_bar.T @ rounded(x)), rtol=1e-3
    )


DEEP = """
input "data" { shape: 3x16x16 }
conv { num_output: 8 kernel_size: 3 pad: 1 bias_term: false }  batch_norm  relu
residual { conv { num_output: 8 kernel_size: 3 pad: 1 }  batch_norm }  relu
pool { pool: MAX kernel_size: 2 stride: 2 }
deconv { num_output: 4 kernel_size: 2 stride: 2 }  tanh  lrn
dropout
pool { pool: AVE global_pooling: true }
fc { num_output: 5 }
softmax_loss
accuracy
"""


@pytest.mark.parametrize("target", [CUDA, CPU_PLAIN], ids=str)
def test_sums_and_losses_stay_in_float32(target: Target, tmp_path: Any) -> None:
    step = step_of(net_of(DEEP, tmp_path), target)
    for word in ("ReduceSum", "ReduceMean", "LogSoftmax", "Exp", "Div", "AveragePool", "Sqrt",
                 "ScatterElements", "Reciprocal"):  # fmt: skip
        assert precisions(step.graph, word) == {"float32"}, word
    assert {v.type.dtype for v in step.graph.outputs} == {"float32"}
    assert {v.type.dtype for v in step.parameters.values()} == {"float32"}


def test_products_are_in_float16_on_cuda(tmp_path: Any) -> None:
    graph = step_of(net_of(DEEP, tmp_path), CUDA).graph
    for word in ("Conv", "ConvTranspose", "FusedMatMul", "Gemm", "MaxPool", "Tanh"):
        assert precisions(graph, word) == {"float16"}, word
    assert all(
        CUDA.runs_half(op)
        for op in graph.ops
        if op.op_type != "Cast" and any(v.type.dtype == "float16" for v in op.outputs)
    )


def gathered(graph: Graph, layers: str) -> set[str]:
    """The types of what layers whose names begin so gather."""
    gathers = [op for op in graph.ops if op.op_type == "Gather" and op.scope.startswith(layers)]
    return {op.outputs[0].type.dtype for op in gathers}


def test_columns_are_gathered_in_float16(tmp_path: Any) -> None:
    """There is more of them than of what they are made of."""
    assert gathered(step_of(net_of(DEEP, tmp_path), CUDA).graph, "conv") == {"float16"}


def test_rows_of_a_table_are_gathered_in_float32(tmp_path: Any) -> None:
    """Else the whole table would be rounded, for a few of its rows."""
    text = """
input "data" { shape: 7 }
embed { input_dim: 1000  num_output: 8 }
fc { num_output: 5 }
softmax_loss
"""
    assert gathered(step_of(net_of(text, tmp_path), CUDA).graph, "embed") == {"float32"}


def test_no_cast_undoes_another(tmp_path: Any) -> None:
    graph = step_of(net_of(DEEP, tmp_path), CUDA).graph
    made = {v: op for op in graph.ops for v in op.outputs}
    for op in graph.ops:
        before = made.get(op.inputs[0]) if op.op_type == "Cast" and op.inputs[0] else None
        assert before is None or before.op_type != "Cast" or "bool" in _kinds(op, before), op.name


def _kinds(*ops: Op) -> set[str]:
    return {v.type.dtype for op in ops for v in (*op.inputs, *op.outputs) if v}


@pytest.mark.parametrize(
    ("spec", "batch", "share"), [("resnet20", 16, 0.55), ("unet", 1, 0.6), ("lenet", 64, 0.6)]
)
def test_activations_halve(spec: str, batch: int, share: float) -> None:
    """No copy in float32 waits from the forward for the gradients."""
    net = elaborate(read(spec), batch=batch).train.net
    whole, half = (peak(step_of(net, CUDA, half=half).graph).activations for half in (False, True))
    assert half < share * whole


def test_places_are_found_with_all_digits(tmp_path: Any) -> None:
    """A grid's products are no convolution's."""
    op = Builder()
    x, grid = op.input("x", TensorType((2, 4))), op.input("grid", TensorType((4, 3)))
    with op.scope("fc"):
        scores = op.MatMul(x, grid)
    with op.scope("sampler"):
        places = op.MatMul(x, grid)
    graph = op.graph([scores, places], name="two")
    halved = Halved.of(graph, layers={"fc", "sampler"}, products={"fc"})
    assert [node.scope for node in halved.ops] == ["fc"]


@pytest.mark.parametrize(("constant", "fits"), [(3.0, True), (1e5, False), (1e-5, False)])
def test_a_constant_that_float16_does_not_hold_keeps_float32(constant: float, fits: bool) -> None:
    op = Builder()
    x, w = op.input("x", TensorType((2, 4))), op.input("w", TensorType((4, 3)))
    with op.scope("fc"):
        y = op.Mul(op.MatMul(x, w), op.scalar(constant))
    halved = Halved.of(op.graph([y], name="y"), layers={"fc"}, products={"fc"})
    assert ("Mul" in {node.op_type for node in halved.ops}) == fits


def test_steps_hold_for_the_smallest_numbers() -> None:
    op = Builder()
    x = op.input("x", TensorType((5,)))
    graph = with_steps(op.graph([slope(op, x, 0, 1), slope(op, x, -1, 1)], name="steps"))
    session = make_session(emit(graph, check=True), Device("cpu"))
    given = np.array([-1, 0, 6e-8, 1e-3, 2], np.float32)
    one, other = session.run(None, {"x": given})
    assert one.tolist() == [0, 0, 1, 1, 1]
    assert other.tolist() == [-1, 0, 1, 1, 1]
    assert "Greater" in {node.op_type for node in graph.ops}


SOLVER = Solver(base_lr=0.1, max_iter=1, precision="FP16", growth_interval=3)


def scales(finite: list[bool], scaling: LossScaling) -> list[float]:
    """S after each of some updates."""
    step = scaling.update_graph()
    session = make_session(emit(step.graph, names=step.names, check=True), Device("cpu"))
    state = {"scale": np.array(scaling.initial, "f"), "good": np.array(0, "f")}
    found = []
    for sound in finite:
        names = [port.name for port in session.get_outputs()]
        made = session.run(names, {**state, "finite": np.array(sound, "f")})
        state = {n.removeprefix("next:"): v for n, v in zip(names, made, strict=True)}
        found.append(float(state["scale"]))
    return found


def test_the_scale_ends_at_its_floor_and_at_what_float32_holds() -> None:
    assert scales([False] * 4, LossScaling(4.0, 3)) == [2, 1, 1, 1]
    assert scales([True] * 3, LossScaling(2.0**126, 1)) == [2.0**127] * 3


def test_gradients_are_divided() -> None:
    step = LossScaling.division_graph([WeightGroup("0", 4)])
    session = make_session(emit(step.graph, names=step.names, check=True), Device("cpu"))
    given = np.array([8, -2, 0, np.inf], np.float32)
    (made,) = session.run(None, {"gradients:0": given, "scale": np.array(4, "f")})
    assert made.tolist() == [2, -0.5, 0, np.inf]


def test_float32_has_no_scale() -> None:
    assert LossScaling.of(Solver(base_lr=0.1, max_iter=1)) is None
    assert LossScaling.of(SOLVER) == LossScaling(65536.0, 3)
