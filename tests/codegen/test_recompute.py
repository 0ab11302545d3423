"""Computing blocks again: the same gradients from less memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from netspec.autodiff import grad
from netspec.codegen.builder import Builder
from netspec.codegen.emit import emit
from netspec.codegen.formulate import formulate
from netspec.codegen.lower import lower
from netspec.codegen.memory import peak
from netspec.codegen.recompute import recompute, segments
from netspec.codegen.simplify import simplify
from netspec.codegen.target import CPU_PLAIN
from netspec.compiler import elaborate, read
from netspec.diagnostics import UsageError
from netspec.ir.graph import Graph, Value
from netspec.ir.net import Net
from netspec.ir.types import TensorType

NET = """
block unit() {
  conv { num_output: 8  kernel_size: 3  pad: 1 }
  batch_norm
  relu
}
block noisy() {
  unit() "in"
  dropout { dropout_ratio: 0.25 }
  conv { num_output: 4  kernel_size: 3 }
  relu
}
block joined() {
  residual {
    unit() "in"
    conv { num_output: 4  kernel_size: 3  pad: 1 }
  }
  relu
  pool { pool: MAX  kernel_size: 2  stride: 2 }
}
input "data" { shape: 3x16x16 }
unit() "a"
unit() "b"
unit() "c"
relu "loose"
noisy() "d"
joined() "e"
unit() "f"
fc "out" { num_output: 5 }
softmax_loss
"""

DEEP = """
block unit() {
  conv { num_output: 8  kernel_size: 3  pad: 1 }
  batch_norm
  relu
}
input "data" { shape: 8x16x16 }
repeat 12 { unit() }
fc { num_output: 5 }
softmax_loss
"""


@dataclass(frozen=True)
class Differentiated:
    """A net's loss, gradients and batch statistics, unsimplified, and where its forward ends."""

    net: Net
    graph: Graph
    forward: int

    def with_again(self, *names: str) -> Graph:
        return recompute(self.graph, segments(names, self.net), forward=self.forward)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Differentiated:
    return differentiated(NET, tmp_path_factory.mktemp("recompute"))


def differentiated(text: str, folder: Path) -> Differentiated:
    (folder / "net.net").write_text(text, encoding="utf-8")
    net = elaborate(read(str(folder / "net.net")), batch=4).train.net
    op = Builder()
    lowered = lower(net, op)
    ((loss, _),) = lowered.losses.values()
    forward = len(op.ops)
    wrt = list(lowered.parameters.values())
    seeds = {loss: op.constant(np.ones(loss.type.shape, np.float32))}
    bars = [bar for bar in grad(op, tuple(op.ops), seeds, wrt) if bar is not None]
    assert len(bars) == len(wrt)
    observed = [observation.batch for observation in lowered.observed.values()]
    graph = op.graph([loss, *bars, *observed], name="test")
    return Differentiated(net, graph, forward)


def formulated(graph: Graph) -> Graph:
    return formulate(simplify(graph), CPU_PLAIN).graph


def run(graph: Graph) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    model = emit(formulated(graph)).SerializeToString()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    outputs: list[np.ndarray] = session.run(None, feeds(graph.inputs))
    return outputs


def feeds(inputs: Sequence[Value]) -> Mapping[str, np.ndarray]:
    rng = np.random.default_rng(0)
    fed: dict[str, np.ndarray] = {}
    for value in inputs:
        if value.type.dtype == "int64":
            fed[value.name] = rng.integers(0, 5, value.type.shape)
        elif value.name.startswith("random"):
            fed[value.name] = rng.random(value.type.shape, np.float32)
        else:
            fed[value.name] = rng.normal(0, 0.3, value.type.shape).astype(np.float32)
    return fed


def made_again(graph: Graph) -> list[str]:
    return [op.name.removesuffix(":again") for op in graph.ops if op.name.endswith(":again")]


@pytest.mark.parametrize(
    "names", [["a"], ["a", "b", "c"], ["d"], ["e"], ["all"], ["*"], ["*/*"], ["d/in", "a/conv1"]]
)
def test_the_gradients_are_the_same_to_the_bit(small: Differentiated, names: list[str]) -> None:
    expected = run(small.graph)
    assert all(np.isfinite(array).all() for array in expected)
    assert np.ptp(expected[1]) > 0
    got = run(small.with_again(*names))
    for output, a, b in zip(small.graph.outputs, expected, got, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=output.name)


def test_the_peak_falls(small: Differentiated) -> None:
    def peaked(graph: Graph) -> int:
        return peak(formulated(graph), reuse=False).activations

    plain = peaked(small.graph)
    one = peaked(small.with_again("a"))
    all_ = peaked(small.with_again("all"))
    assert all_ < one < plain


def test_a_stack_of_blocks_keeps_one_tensor_per_block(tmp_path: Path) -> None:
    deep = differentiated(DEEP, tmp_path)
    tensor = 4 * 4 * 8 * 16 * 16
    peaks = [
        peak(formulated(graph), reuse=False).activations / tensor
        for graph in (deep.graph, deep.with_again("all"))
    ]
    assert peaks[0] > 24  # the outputs of conv and relu; batch_norm's only lives until the relu
    assert peaks[1] < 12 + 12


def test_nothing_is_made_again_where_nothing_is_named(small: Differentiated) -> None:
    same = small.with_again()
    assert same.ops == small.graph.ops


def test_a_layer_by_itself_has_nothing_to_drop(small: Differentiated) -> None:
    assert made_again(small.with_again("loose")) == []


def test_each_operator_is_made_again_once_just_before_its_first_reader(
    small: Differentiated,
) -> None:
    graph = small.with_again("b")
    names = made_again(graph)
    assert {name.rpartition("/")[0] for name in names} <= {"b/conv1", "b/batch_norm1", "b/relu1"}
    assert max(Counter(names).values()) == 1
    assert "b/conv1/Conv" in names
    first = next(i for i, op in enumerate(graph.ops) if op.name.endswith(":again"))
    assert first >= small.forward
    after = graph.ops[first + len(names)]
    copies = {v for op in graph.ops[first : first + len(names)] for v in op.outputs}
    assert copies.intersection(after.inputs)  # all of it waits for one operator


def test_what_leaves_comes_from_the_first_copy(small: Differentiated) -> None:
    graph = small.with_again("all")
    assert graph.outputs == small.graph.outputs
    forward = {v for op in graph.ops[: small.forward] for v in op.outputs}
    observed = [v for v in graph.outputs if "batch_norm" in v.name and v in forward]
    assert len(observed) == 2 * 6  # a mean and a variance of each unit


def test_what_is_read_outside_of_the_segment_is_kept(small: Differentiated) -> None:
    graph = small.with_again("b")
    assert "b/batch_norm1/BatchNormalization" in made_again(graph)
    assert "b/relu1/Relu" not in made_again(graph)


def test_what_is_drawn_is_not_drawn_again() -> None:
    op = Builder()
    x = op.input("x", TensorType((4, 8)))
    with op.scope("block/noise"):
        noise = op.RandomUniformLike(x)
        y = op.Mul(op.Exp(x), noise)
    with op.scope("next"):
        z = op.Mul(y, y)
    forward = len(op.ops)
    bar = op.Mul(noise, z)
    graph = op.graph([bar], name="test")
    assert made_again(recompute(graph, [{"block/noise"}], forward=forward)) == []


def test_segments_are_named_by_block_layer_pattern_or_all(small: Differentiated) -> None:
    net = small.net
    assert segments(["a"], net) == (frozenset({"a/conv1", "a/batch_norm1", "a/relu1"}),)
    assert segments(["a/conv1", "loose"], net) == (frozenset({"a/conv1"}), frozenset({"loose"}))
    (d,) = segments(["d"], net)
    assert "d/in/conv1" in d
    assert len(segments(["all"], net)) == 5  # a to e; f's gradients come first
    assert segments(["*/in"], net) == segments(["d/in"], net)
    assert segments(["e/*/in"], net) == segments(["e/residual1/in"], net)
    assert segments(["a", "a"], net) == segments(["a"], net)
    assert segments([], net) == ()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "d/im"], "there is no layer or block `d/im`; did you mean `d/in`?"),
        (["zzz*"], "there is no layer or block `zzz*`"),
        (["data"], "there is no layer or block `data`"),
        (["d", "d/in"], "`d/in` lies within `d`: recompute one of them"),
    ],
)
def test_a_wrong_name_is_a_usage_error(
    small: Differentiated, names: list[str], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        segments(names, small.net)
    assert message in str(caught.value)


def test_all_of_a_net_without_blocks_is_a_usage_error() -> None:
    net = elaborate(read("lenet"), batch=2).train.net
    with pytest.raises(UsageError, match="LeNet has no two blocks to recompute"):
        segments(["all"], net)
