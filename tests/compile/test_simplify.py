"""The passes change no result, and leave out what leads nowhere."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime as ort
import pytest

from netspec import zoo
from netspec.codegen.builder import Builder
from netspec.codegen.emit import emit
from netspec.codegen.inference import inference_graph
from netspec.codegen.lower import lower
from netspec.codegen.simplify import drop_copies, prune, simplify
from netspec.compiler import Spec, elaborate
from netspec.ir.deploy import deploy
from netspec.ir.graph import Graph
from netspec.ir.types import TensorType


def results(graph: Graph) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        emit(graph).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    generator = np.random.default_rng(0)
    feeds = {
        i.name: (0.1 * generator.standard_normal(i.shape)).astype(np.float32) ** 2
        for i in session.get_inputs()
    }
    return session.run(None, feeds)


@pytest.mark.parametrize("name", zoo.names())
def test_outputs_stay(name: str, small: Callable[[str], Spec]) -> None:
    net, wanted = deploy(elaborate(small(name), batch=2).test.net)
    lowered = lower(net)
    whole = lowered.op.graph([lowered.blobs[w] for w in wanted], name=net.name)
    for pass_ in (prune, drop_copies, simplify):
        for a, b in zip(results(whole), results(pass_(whole)), strict=True):
            np.testing.assert_array_equal(a, b)
    once = simplify(inference_graph(net, wanted).graph)
    assert simplify(once).ops == once.ops


def test_prune() -> None:
    op = Builder()
    x = op.input("x", TensorType((1, 2, 4, 4)))
    y, _ = op.MaxPool(x, outputs=2, kernel_shape=(2, 2), strides=(2, 2))
    op.Add(y, op.scalar(3))
    graph = prune(op.graph([op.Relu(y)], name="test"))
    assert [o.op_type for o in graph.ops] == ["MaxPool", "Relu"]
    assert graph.ops[0].outputs == (y,)
    assert not graph.constants


def test_prune_keeps_indices_that_are_read() -> None:
    op = Builder()
    x = op.input("x", TensorType((1, 2, 4, 4)))
    y, indices = op.MaxPool(x, outputs=2, kernel_shape=(2, 2), strides=(2, 2))
    graph = prune(op.graph([indices], name="test"))
    assert graph.ops[0].outputs == (y, indices)


def test_copies_go_unless_they_leave() -> None:
    op = Builder()
    x = op.input("x", TensorType((1, 2)))
    inner, leaving = op.Identity(op.Identity(x)), op.Identity(x)
    y = op.Relu(inner)
    graph = drop_copies(op.graph([y, leaving], name="test"))
    assert [o.op_type for o in graph.ops] == ["Identity", "Relu"]
    assert graph.ops[1].inputs == (x,)
    assert graph.outputs == (y, leaving)
