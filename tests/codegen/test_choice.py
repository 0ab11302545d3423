"""Which formulation a target takes: rules that were measured."""

from __future__ import annotations

from math import prod

import numpy as np
import onnxruntime as ort
import pytest

from netspec.codegen import layout
from netspec.codegen.builder import Builder
from netspec.codegen.choice import RULES
from netspec.codegen.emit import emit
from netspec.codegen.formulate import formulate
from netspec.codegen.formulations import FORMULATIONS
from netspec.codegen.formulations.plain import convolution
from netspec.codegen.target import CPU_PLAIN, CUDA, Target
from netspec.ir.graph import Graph
from netspec.ir.types import Shape, TensorType


def filter_gradient(
    images: Shape, filters: int, kernel: int, *, stride: int = 1, pad: int = 0, group: int = 1
) -> Graph:
    """w̄ of a convolution of batch x channels x space by filters as wide as they are high."""
    n, c, *extent = images
    rank = len(extent)
    windows = ((length + 2 * pad - kernel) // stride + 1 for length in extent)
    op = Builder()
    x = op.input("x", TensorType(images))
    y_bar = op.input("y_bar", TensorType((n, filters, *windows)))
    w_bar = op.ConvGradWeight(
        x, y_bar, shape=(filters, c // group, *(kernel,) * rank), kernel_shape=(kernel,) * rank,
        strides=(stride,) * rank, pads=(pad,) * 2 * rank, dilations=(1,) * rank, group=group,
    )  # fmt: skip
    return op.graph([w_bar], name="filters")


def taken(graph: Graph, target: Target) -> list[str]:
    return [formulation.name for formulation in layout.plan(graph, target).chosen.values()]


def test_rules_name_what_there_is() -> None:
    for rule in RULES:
        assert rule.formulation in {f.name for f in FORMULATIONS[rule.operator]}


@pytest.mark.parametrize(
    ("images", "filters", "kernel", "wanted"),
    [
        ((32, 512, 7, 7), 512, 3, "columns beside"),
        ((32, 256, 14, 14), 256, 3, "columns beside"),
        ((32, 64, 56, 56), 64, 3, "columns"),
        ((32, 3, 224, 224), 64, 7, "columns"),
        ((256, 16, 32, 32), 16, 3, "columns beside"),
        ((64, 1, 28, 28), 16, 5, "columns"),
        ((32, 256, 56, 56), 64, 1, "taps"),
    ],
)
def test_filter_gradients_on_cuda(images: Shape, filters: int, kernel: int, wanted: str) -> None:
    graph = filter_gradient(images, filters, kernel, pad=kernel // 2)
    assert taken(graph, CUDA) == [wanted]
    assert taken(graph, CPU_PLAIN) == ["taps"]


def test_depthwise_filters_have_no_product() -> None:
    assert taken(filter_gradient((4, 8, 9, 9), 8, 3, group=8), CUDA) == ["taps"]


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize(("stride", "group"), [(1, 1), (2, 1), (1, 2)])
def test_columns_in_runs_of_taps(
    beside: bool, stride: int, group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all columns at once are too much, those of some taps follow each other."""
    graph = filter_gradient((3, 4, 9, 8), 6, 3, stride=stride, pad=1, group=group)
    rng = np.random.default_rng(0)
    feeds = {
        value.name: rng.standard_normal(value.type.shape, np.float32) for value in graph.inputs
    }

    def result(name: str) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float32]], int]:
        chosen = {f.name: f for f in FORMULATIONS["ConvGradWeight"]}[name]
        plan = layout.plan(graph, CUDA, lambda *_: chosen)
        made = formulate(graph, CUDA, plan).graph
        session = ort.InferenceSession(
            emit(made).SerializeToString(), providers=["CPUExecutionProvider"]
        )
        products = sum(op.op_type == "FusedMatMul" for op in made.ops)
        return session.run(None, feeds)[0], products

    wanted, _ = result("taps")
    name = "columns beside" if beside else "columns"
    at_once, products = result(name)
    assert products == 1
    cells = graph.inputs[1].type.numel // 6 * 4
    monkeypatch.setattr(convolution, "_COLUMNS", 4 * cells)
    in_runs, products = result(name)
    assert products == 3
    np.testing.assert_allclose(at_once, wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(in_runs, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("images", "filters", "kernel", "wanted"),
    [
        ((256, 64, 224, 224), 64, 3, "columns"),
        ((256, 64, 224, 224), 64, 7, "columns"),
        ((256, 16, 224, 224), 16, 3, "columns beside"),
        ((1, 16, 160, 160, 160), 32, 5, "columns"),
    ],
)
def test_columns_stay_within_what_kernels_count(
    images: Shape, filters: int, kernel: int, wanted: str
) -> None:
    """Large images of large batches: no value of 2^31 cells, no table of them as a constant."""
    graph = filter_gradient(images, filters, kernel, pad=kernel // 2)
    assert taken(graph, CUDA) == [wanted]
    made = formulate(graph, CUDA).graph
    assert max(value.type.numel for op in made.ops for value in op.outputs) < 2**31
    assert max(array.nbytes for array in made.constants.values()) <= 4 * prod(images[2:])
