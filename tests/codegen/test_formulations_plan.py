"""Which values live in blocks, and what operators do on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from netspec.autodiff import grad
from netspec.codegen.builder import Builder
from netspec.codegen.formulate import formulate
from netspec.codegen.layout import Plan, plan
from netspec.codegen.operators import GRADIENT, NCHWC
from netspec.codegen.simplify import simplify
from netspec.codegen.target import CPU_PLAIN, CUDA, Target, cpu_blocked
from netspec.diagnostics import UsageError
from netspec.ir.graph import Graph, Op, Value
from netspec.ir.types import TensorType

BLOCKED = cpu_blocked(16)
"""Plans are made, not run: any machine can."""
SAME: dict[str, Any] = {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1)}


@dataclass(frozen=True)
class Net:
    """conv, relu, pool, conv, a residual sum, relu, global mean, fc."""

    graph: Graph
    named: dict[str, Value]

    def of(self, values: Any) -> set[str]:
        """Names of those values that have one."""
        return {name for name, value in self.named.items() if value in values}

    def maker(self, name: str) -> Op:
        return next(op for op in self.graph.ops if self.named[name] in op.outputs)


def small(*, gradients: bool, channels: int = 32) -> Net:
    op, m = Builder(), channels
    shapes = {"x": (4, 3, 8, 8), "v": (m, 3, 3, 3), "w": (m, m, 3, 3), "fc": (m, 10),
              "seed": (4, 10)}  # fmt: skip
    fed = {name: op.input(name, TensorType(shape)) for name, shape in shapes.items()}
    first = op.Conv(fed["x"], fed["v"], **SAME)
    relu = op.Relu(first)
    pool, indices = op.MaxPool(relu, outputs=2, kernel_shape=(2, 2), strides=(2, 2))
    second = op.Conv(pool, fed["w"], **SAME)
    total = op.Add(second, pool)
    out = op.Relu(total)
    mean = op.ReduceMean(out, op.ints(2, 3), keepdims=0)
    y = op.Gemm(mean, fed["fc"])
    named = {
        "conv1": first, "relu1": relu, "pool": pool, "indices": indices, "conv2": second,
        "sum": total, "relu2": out, "mean": mean, "y": y,
    }  # fmt: skip
    outputs = [y]
    if gradients:
        bars = grad(op, tuple(op.ops), {y: fed["seed"]}, [fed["v"], fed["w"], fed["fc"]])
        outputs += [bar for bar in bars if bar is not None]
    return Net(simplify(op.graph(outputs, name="small")), fed | named)


def _named(net: Net, chosen: Plan) -> dict[str, str]:
    """How each value that has a name is made."""
    makers = {v: f.name for op, f in chosen.chosen.items() for v in op.outputs}
    return {name: makers[value] for name, value in net.named.items() if value in makers}


def test_convolutions_make_blocks_and_what_follows_keeps_them() -> None:
    net = small(gradients=False)
    made = plan(net.graph, BLOCKED)
    assert net.of(made.blocked) == {"conv1", "relu1", "pool", "conv2", "sum", "relu2"}
    assert _named(net, made) == dict.fromkeys((*net.of(made.blocked), "mean"), "blocked")
    written = formulate(net.graph, BLOCKED).graph
    # x is read as it is, and one number per image and channel lies alike in both layouts.
    reordered = [op.op_type for op in written.ops if "Reorder" in op.op_type and op.domain]
    assert reordered == ["ReorderInput"] * 2  # the filters of both convolutions
    assert [op.op_type for op in written.ops if op.domain == NCHWC and "Re" not in op.op_type] == [
        "Conv", "MaxPool", "Conv", "Conv", "GlobalAveragePool",
    ]  # fmt: skip
    assert not {"Relu", "Add"} & {op.op_type for op in written.ops}


def test_a_convolution_does_the_sum_and_the_relu_behind_it() -> None:
    net = small(gradients=False)
    epilogues = plan(net.graph, BLOCKED).epilogues
    first, second = epilogues[net.maker("conv1")], epilogues[net.maker("conv2")]
    assert len(epilogues) == 2
    assert first.absorbed == (net.maker("relu1"),)
    assert first.added is None
    assert first.relu
    assert second.absorbed == (net.maker("sum"), net.maker("relu2"))
    assert second.added is net.named["pool"]
    assert second.relu


@pytest.mark.parametrize(
    ("channels", "back"),
    [
        (32, ("ConvGradInput", "blocked", True)),
        (20, ("ConvGradInput", "transposed", False)),  # no whole blocks to go back to
    ],
)
def test_gradients_live_in_blocks_up_to_the_filters(
    channels: int, back: tuple[str, str, bool]
) -> None:
    net = small(gradients=True, channels=channels)
    made = plan(net.graph, BLOCKED)
    how = {
        (op.op_type, f.name, all(v in made.blocked for v in op.outputs))
        for op, f in made.chosen.items()
        if op.domain == GRADIENT
    }
    assert how == {
        back,
        ("ConvGradWeight", "images", False),
        ("MaxPoolGrad", "blocked", True),
        ("ReluGrad", "blocked", True),
    }


@pytest.mark.parametrize(("block", "channels"), [(8, 24), (8, 20), (16, 24), (16, 20)])
def test_the_way_back_to_channels_that_fill_no_blocks_hangs_on_the_processor(
    block: int, channels: int
) -> None:
    net = small(gradients=True, channels=channels)
    made = plan(net.graph, cpu_blocked(block))
    (back,) = (f.name for op, f in made.chosen.items() if op.op_type == "ConvGradInput")
    filling = {8: "columns", 16: "transposed"}
    assert back == (filling[block] if channels % block else "blocked")


@pytest.mark.parametrize("target", [CPU_PLAIN, CUDA], ids=str)
@pytest.mark.parametrize("gradients", [False, True])
def test_nothing_is_blocked_elsewhere(target: Target, gradients: bool) -> None:
    net = small(gradients=gradients)
    made = plan(net.graph, target)
    assert not made.blocked
    assert not made.epilogues
    assert {f.layout for f in made.chosen.values()} <= {"plain"}


@pytest.mark.parametrize("target", [CPU_PLAIN, CUDA, BLOCKED], ids=str)
def test_nothing_is_left_that_the_target_has_not(target: Target) -> None:
    net = small(gradients=True)
    written = formulate(net.graph, target)
    assert all(target.runs(op) and op.domain != GRADIENT for op in written.graph.ops)
    assert set(written.outputs) == set(net.graph.outputs)
    assert [v.type for v in written.outputs.values()] == [v.type for v in net.graph.outputs]


def test_an_operator_that_the_target_has_not_is_refused() -> None:
    op = Builder()
    graph = op.graph([op.Atan(op.input("x", TensorType((2, 3))))], name="atan")
    assert formulate(graph, CPU_PLAIN).graph.ops
    with pytest.raises(UsageError, match="cuda has no kernel for Atan"):
        formulate(graph, CUDA)
