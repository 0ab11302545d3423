"""The batch as a graph: what is gathered, what is left out, what leaves."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnxruntime as ort
import pytest

from netspec.autodiff import grad
from netspec.codegen.emit import emit
from netspec.codegen.step import BatchStep, evaluation_graph, gradient_graph
from netspec.codegen.target import CPU_PLAIN
from netspec.diagnostics import UsageError
from netspec.ir.filler import Filler
from netspec.ir.graph import Value
from netspec.ir.layer import Context, Layer, Phase, Role, Types, Values, Weight
from netspec.ir.net import Net, Node, Parameter
from netspec.ir.transform import Transform
from netspec.ir.types import TensorType

IMAGES = TensorType((4, 2, 3, 3))
DATA = {"data": TensorType((50, 2, 3, 3), "uint8"), "label": TensorType((50,), "int64")}


class Feed(Layer):
    """An input."""

    keyword: ClassVar = "feed"
    role: ClassVar = Role.INPUT


class Shift(Layer):
    """y = x + a + b: two weights with one gradient."""

    keyword: ClassVar = "shift"

    def weights(self, bottoms: Types) -> tuple[Weight, ...]:
        return tuple(Weight(name, bottoms[0].sample, Filler()) for name in "ab")

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), (a, b) = bottoms, weights
        return (context.op.Add(context.op.Add(x, a), b),)


class Mean(Layer):
    """A loss: y = mean(x), or x itself if `whole`."""

    keyword: ClassVar = "mean"
    role: ClassVar = Role.LOSS
    whole: bool = False

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,) = bottoms
        return (x if self.whole else context.op.ReduceMean(x, keepdims=0),)


def net(*losses: float, whole: bool = False, shift: bool = True) -> Net:
    """data → shift → a loss per weight; without `shift` the losses read the data."""
    scalar = IMAGES if whole else IMAGES.with_shape()
    parameters = tuple(Parameter(f"s.{name}", IMAGES.sample, Filler()) for name in "ab")
    nodes = [
        Node(name="data", layer=Feed(), bottoms=(), tops=("data",), bottom_types=(),
             top_types=(IMAGES,)),
        Node(name="s", layer=Shift(), bottoms=("data",), tops=("s",), bottom_types=(IMAGES,),
             top_types=(IMAGES,), parameters=parameters),
        *(
            Node(name=f"loss{i}", layer=Mean(whole=whole), bottoms=("s" if shift else "data",),
                 tops=(f"loss{i}",), bottom_types=(IMAGES,), top_types=(scalar,),
                 loss_weight=weight)
            for i, weight in enumerate(losses)
        ),
    ]  # fmt: skip
    return Net(name="net", phase=Phase.TRAIN, batch=4, nodes=tuple(nodes))


def kinds(step: BatchStep) -> list[str]:
    return [op.op_type for op in step.graph.ops]


def run(step: BatchStep, fed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    model = emit(step.graph, names=step.names, check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_outputs()]
    return dict(zip(names, session.run(names, fed), strict=True))


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (Transform(), []),
        (Transform(scale=1 / 255), ["Mul"]),
        (Transform(mean_value=(3.0,)), ["Sub"]),
        (Transform(mean_value=(1, 2), scale=2, std=(2, 2)), ["Sub"]),
        (Transform(mean_value=(1, 2), scale=2, std=(2, 3)), ["Sub", "Mul"]),
    ],
)
def test_what_is_neutral_is_left_out(transform: Transform, expected: list[str]) -> None:
    step = evaluation_graph(net(1.0, shift=False), DATA, transform, CPU_PLAIN)
    assert kinds(step)[:-2] == ["Gather", "Cast", *expected]


def test_pixels_are_shifted_scaled_and_divided() -> None:
    transform = Transform(mean_value=(1, 2), scale=2, std=(4, 5))
    step = evaluation_graph(net(1.0, whole=True, shift=False), DATA, transform, CPU_PLAIN)
    pixels = np.random.default_rng(0).integers(0, 256, (50, 2, 3, 3)).astype(np.uint8)
    indices = np.array([3, 0, 49, 3])
    made = run(step, {"array:data": pixels, "indices": indices})
    mean, factor = np.reshape([1, 2], (2, 1, 1)), np.reshape([2 / 4, 2 / 5], (2, 1, 1))
    expected = (pixels[indices] - mean) * factor
    assert made["loss"] == pytest.approx(expected.sum(), rel=1e-5)


def test_a_transform_of_another_number_of_channels_is_a_fault() -> None:
    with pytest.raises(UsageError, match="mean_value has 3 values, but data has 2 channels"):
        evaluation_graph(net(1.0), DATA, Transform(mean_value=(1, 2, 3)), CPU_PLAIN)


def test_float_data_are_not_cast() -> None:
    floats = {"data": TensorType((50, 2, 3, 3))}
    step = evaluation_graph(net(1.0, shift=False), floats, Transform(), CPU_PLAIN)
    assert kinds(step)[:-2] == ["Gather"]


def test_what_nothing_reads_is_no_input() -> None:
    step = gradient_graph(net(1.0, shift=False), DATA, Transform(), CPU_PLAIN, grad)
    assert list(step.arrays) == ["data"]
    assert not step.parameters
    assert step.unreached == ("s.a", "s.b")
    assert not step.gradients
    assert {v.name for v in step.graph.inputs} == {"data", "indices"}


def test_losses_are_weighted_in_the_total_and_in_the_gradients() -> None:
    step = gradient_graph(net(0.25, 2.0), DATA, Transform(), CPU_PLAIN, grad)
    pixels = np.random.default_rng(0).integers(0, 256, (50, 2, 3, 3)).astype(np.uint8)
    a, b = np.full((2, 3, 3), 0.5, np.float32), np.zeros((2, 3, 3), np.float32)
    fed: dict[str, np.ndarray] = {
        "array:data": pixels,
        "indices": np.arange(4),
        "weight:s.a": a,
        "weight:s.b": b,
    }
    made = run(step, fed)
    mean = pixels[:4].mean() + 0.5
    assert made["loss:loss0"] == pytest.approx(mean, rel=1e-5)
    assert made["loss:loss1"] == pytest.approx(mean, rel=1e-5)
    assert made["loss"] == pytest.approx(2.25 * mean, rel=1e-5)
    np.testing.assert_allclose(made["gradient:s.a"], np.full((2, 3, 3), 2.25 / 18), rtol=1e-5)
    # Both weights have the same gradient, and each has its own output.
    assert np.array_equal(made["gradient:s.a"], made["gradient:s.b"])


@pytest.mark.parametrize("bad", [None, np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("where", ["weight:s.a", "array:data"])
def test_the_step_says_whether_all_is_finite(bad: float | None, where: str) -> None:
    floats = {"data": TensorType((50, 2, 3, 3))}
    step = gradient_graph(net(1.0), floats, Transform(), CPU_PLAIN, grad)
    fed = {port: np.ones(v.type.shape, v.type.dtype) for v, port in step.names.items()
           if v in step.graph.inputs}  # fmt: skip
    fed["indices"] = np.arange(4)
    if bad is not None:
        fed[where].reshape(-1)[1] = bad
    assert run(step, fed)["finite"] == (bad is None)


def test_infinities_of_both_signs_do_not_cancel() -> None:
    floats = {"data": TensorType((50, 2, 3, 3))}
    step = gradient_graph(net(1.0), floats, Transform(), CPU_PLAIN, grad)
    fed = {port: np.ones(v.type.shape, v.type.dtype) for v, port in step.names.items()
           if v in step.graph.inputs}  # fmt: skip
    fed["indices"] = np.arange(4)
    fed["array:data"].reshape(-1)[:2] = np.inf, -np.inf
    assert run(step, fed)["finite"] == 0
