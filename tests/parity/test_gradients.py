"""Gradient rules against torch's autograd: a second, independent derivation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnxruntime as ort
import pytest

from netspec.autodiff import grad
from netspec.codegen.builder import Builder
from netspec.codegen.emit import emit
from netspec.codegen.formulate import formulate
from netspec.codegen.target import CPU_PLAIN, CUDA, Target
from netspec.ir.types import TensorType
from netspec.training.execution.targets import find_target

torch = pytest.importorskip("torch")
F = torch.nn.functional
pytestmark = pytest.mark.parity

Pair: TypeAlias = tuple[Callable[..., Any], Callable[..., Any]]
"""A function in ONNX operators, and in torch."""

TOLERANCE = 1e-5
"""Of the norm."""


@dataclass(frozen=True)
class Case:
    """The same function twice: in ONNX operators, and in torch."""

    name: str
    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    shapes: Sequence[tuple[int, ...]]
    positive: bool = False


def conv(**attrs: Any) -> Pair:
    def ours(op: Builder, x: Any, w: Any, *b: Any) -> Any:
        return op.Conv(x, w, *b, kernel_shape=w.type.spatial, **onnx(attrs))

    return ours, lambda x, w, *b: F.conv2d(x, w, *b, **attrs)


def deconv(**attrs: Any) -> Pair:
    def ours(op: Builder, x: Any, w: Any, *b: Any) -> Any:
        return op.ConvTranspose(x, w, *b, kernel_shape=w.type.spatial, **onnx(attrs))

    return ours, lambda x, w, *b: F.conv_transpose2d(x, w, *b, **attrs)


def onnx(attrs: dict[str, Any]) -> dict[str, Any]:
    """torch's words for a convolution in ONNX's."""
    words = {"stride": "strides", "dilation": "dilations", "groups": "group"}
    given = {words.get(word, word): value for word, value in attrs.items()}
    if "padding" in given:
        given["pads"] = given.pop("padding") * 2
    return given


def max_pool(kernel: Any, stride: Any, pad: Any, *, ceil: bool = False) -> Pair:
    def ours(op: Builder, x: Any) -> Any:
        return op.MaxPool(
            x, outputs=2, kernel_shape=kernel, strides=stride, pads=pad * 2, ceil_mode=int(ceil)
        )[0]

    return ours, lambda x: F.max_pool2d(x, kernel, stride, pad, ceil_mode=ceil)


def average_pool(kernel: Any, stride: Any, pad: Any, *, ceil: bool = False, all: int = 1) -> Pair:
    def ours(op: Builder, x: Any) -> Any:
        return op.AveragePool(
            x, kernel_shape=kernel, strides=stride, pads=pad * 2, ceil_mode=int(ceil),
            count_include_pad=all,
        )  # fmt: skip

    return ours, lambda x: F.avg_pool2d(x, kernel, stride, pad, ceil, bool(all))


def unary(op_type: str, **attrs: Any) -> Callable[..., Any]:
    return lambda op, *xs: getattr(op, op_type)(*xs, **attrs)


X = (2, 3, 4, 5)
CASES = [
    Case("conv", *conv(padding=(1, 1)), [(2, 3, 8, 7), (5, 3, 3, 3), (5,)]),
    Case("conv LeNet", *conv(), [(2, 20, 12, 12), (50, 20, 5, 5), (50,)]),
    Case("conv image", *conv(stride=(2, 2), padding=(3, 3)), [(2, 3, 17, 18), (4, 3, 7, 7)]),
    Case("conv left over", *conv(stride=(3, 2)), [(2, 6, 12, 10), (4, 6, 3, 3)]),
    Case("conv dilated", *conv(dilation=(2, 3), padding=(2, 1)), [(2, 5, 9, 9), (4, 5, 3, 2)]),
    Case("conv groups", *conv(groups=3, padding=(1, 1)), [(2, 6, 6, 6), (9, 2, 3, 3)]),
    Case("conv depthwise", *conv(groups=6, padding=(1, 1)), [(2, 6, 6, 6), (6, 1, 3, 3)]),
    Case("conv depth x 2", *conv(groups=3, stride=(2, 2)), [(2, 3, 7, 6), (6, 1, 3, 3)]),
    Case("conv pointwise", *conv(), [(3, 16, 5, 5), (8, 16, 1, 1), (8,)]),
    Case("conv deep", *conv(padding=(1, 1)), [(4, 32, 3, 3), (32, 32, 3, 3)]),
    Case(
        "deconv",
        *deconv(stride=(2, 2), padding=(1, 1), groups=2),
        [(2, 4, 5, 4), (4, 3, 4, 4), (6,)],
    ),
    Case(
        "deconv output padding",
        *deconv(stride=(3, 2), padding=(1, 0), output_padding=(2, 1), dilation=(1, 2)),
        [(2, 5, 4, 4), (5, 3, 3, 2)],
    ),
    Case("max pool", *max_pool((2, 2), (2, 2), (0, 0)), [(2, 3, 8, 6)]),
    Case("max pool overlapping", *max_pool((3, 3), (2, 2), (1, 1)), [(2, 3, 9, 8)]),
    Case("max pool ceil", *max_pool((3, 3), (2, 2), (0, 0), ceil=True), [(2, 3, 8, 8)]),
    Case("average pool", *average_pool((2, 2), (2, 2), (0, 0)), [(2, 3, 8, 7)]),
    Case("average pool global", *average_pool((5, 4), (1, 1), (0, 0)), [(2, 3, 5, 4)]),
    Case("average pool same", *average_pool((3, 5), (1, 1), (1, 2)), [(2, 3, 6, 7)]),
    Case("average pool ceil", *average_pool((3, 3), (2, 2), (1, 1), ceil=True), [(2, 3, 8, 8)]),
    Case("average pool tile ceil", *average_pool((3, 2), (3, 2), (1, 0), ceil=True), [X]),
    Case("average pool inside", *average_pool((3, 3), (2, 2), (1, 1), all=0), [(2, 3, 7, 9)]),
    Case("relu", unary("Relu"), torch.relu, [X]),
    Case("leaky relu", unary("LeakyRelu", alpha=0.2), lambda x: F.leaky_relu(x, 0.2), [X]),
    Case("prelu", unary("PRelu"), lambda x, a: F.prelu(x, a.flatten()), [X, (3, 1, 1)]),
    Case("elu", unary("Elu", alpha=0.7), lambda x: F.elu(x, 0.7), [X]),
    Case("softplus", unary("Softplus"), F.softplus, [X]),
    Case("erf", unary("Erf"), torch.erf, [X]),
    Case("sigmoid", unary("Sigmoid"), torch.sigmoid, [X]),
    Case("tanh", unary("Tanh"), torch.tanh, [X]),
    Case("softmax", unary("Softmax", axis=1), lambda x: x.softmax(1), [X]),
    Case("log softmax", unary("LogSoftmax", axis=1), lambda x: x.log_softmax(1), [(6, 9)]),
    Case("gemm", unary("Gemm", transB=1), F.linear, [(4, 6), (5, 6), (5,)]),
    Case("matmul", unary("MatMul"), torch.matmul, [(2, 3, 4), (2, 4, 5)]),
    Case("matmul, one matrix for all", unary("MatMul"), torch.matmul, [(2, 3, 4), (4, 5)]),
    Case("matmul, of two axes", unary("MatMul"), torch.matmul, [(6, 2, 3, 4), (4, 5)]),
    Case(
        "fused matmul",
        unary("FusedMatMul", transA=1, transB=1, alpha=0.3),
        lambda a, b: 0.3 * a.mT @ b.mT,
        [(2, 4, 3), (2, 5, 4)],
    ),
    Case("add", unary("Add"), torch.add, [X, (3, 1, 1)]),
    Case("sub", unary("Sub"), torch.sub, [(4, 1), X]),
    Case("mul", unary("Mul"), torch.mul, [X, (1, 3, 1, 5)]),
    Case("div", unary("Div"), torch.div, [X, (3, 1, 1)], positive=True),
    Case("sum", unary("Sum"), lambda a, b, c: a + b + c, [X, X, X]),
    Case("max", unary("Max"), torch.maximum, [X, X]),
    Case("min", unary("Min"), torch.minimum, [X, X]),
    Case("neg", unary("Neg"), torch.neg, [X]),
    Case("abs", unary("Abs"), torch.abs, [X]),
    Case("exp", unary("Exp"), torch.exp, [X]),
    Case("log", unary("Log"), torch.log, [X], positive=True),
    Case("sqrt", unary("Sqrt"), torch.sqrt, [X], positive=True),
    Case("reciprocal", unary("Reciprocal"), torch.reciprocal, [X], positive=True),
    Case("square", lambda op, x: op.Pow(x, op.scalar(2)), lambda x: x**2, [X]),
    Case("pow", lambda op, x: op.Pow(x, op.scalar(-0.75)), lambda x: x**-0.75, [X], positive=True),
    Case(
        "clip",
        lambda op, x: op.Clip(x, op.scalar(-0.5), op.scalar(0.7)),
        lambda x: x.clamp(-0.5, 0.7),
        [X],
    ),
    Case(
        "reduce mean",
        lambda op, x: op.ReduceMean(x, op.ints(0, 2, 3), keepdims=0),
        lambda x: x.mean((0, 2, 3)),
        [X],
    ),
    Case(
        "reduce sum",
        lambda op, x: op.ReduceSum(x, op.ints(1), keepdims=1),
        lambda x: x.sum(1, keepdim=True),
        [X],
    ),
    Case(
        "reduce max",
        lambda op, x: op.ReduceMax(x, op.ints(1), keepdims=0),
        lambda x: x.amax(1),
        [X],
    ),
    Case("concat", unary("Concat", axis=1), lambda a, b: torch.cat([a, b], 1), [X, (2, 1, 4, 5)]),
    Case(
        "slice",
        lambda op, x: op.Slice(x, op.ints(1, 0), op.ints(4, 5), op.ints(2, 3), op.ints(1, 2)),
        lambda x: x[:, :, 1:4, ::2],
        [X],
    ),
    Case(
        "pad",
        lambda op, x: op.Pad(x, op.ints(0, 0, 1, 0, 0, 0, 2, 3)),
        lambda x: F.pad(x, (0, 3, 1, 2)),
        [X],
    ),
    Case("transpose", unary("Transpose", perm=(1, 3, 0, 2)), lambda x: x.permute(1, 3, 0, 2), [X]),
    Case(
        "expand",
        lambda op, x: op.Expand(x, op.ints(2, 3, 4, 5)),
        lambda x: x.expand(2, 3, 4, 5),
        [(3, 1, 1)],
    ),
    Case(
        "gather",
        lambda op, x: op.Gather(x, op.ints(2, 0, 2), axis=1),
        lambda x: x[:, [2, 0, 2]],
        [X],
    ),
    Case(
        "cross entropy",
        lambda op, x: op.Neg(
            op.ReduceMean(op.GatherElements(op.LogSoftmax(x, axis=1), labels(op), axis=1))
        ),
        lambda x: F.cross_entropy(x, torch.tensor([1, 0, 3])).reshape(1, 1),
        [(3, 4)],
    ),
]


def labels(op: Builder) -> Any:
    return op.constant(np.array([[1], [0], [3]]))


each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
each_target = pytest.mark.parametrize(
    "target", [CPU_PLAIN, CUDA, find_target("cpu").target], ids=str
)
each_max_pool = pytest.mark.parametrize(
    "case", [case for case in CASES if case.name.startswith("max pool")], ids=lambda case: case.name
)


@each_target
@each_case
def test_gradient_is_that_of_torch(case: Case, target: Target) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype("float32") for shape in case.shapes]
    compare(case, target, [np.abs(a) + 0.5 if case.positive else a for a in arrays])


@each_target
@each_max_pool
def test_ties_go_where_torch_sends_them(case: Case, target: Target) -> None:
    rng = np.random.default_rng(0)
    compare(
        case, target, [np.maximum(rng.standard_normal(shape), 0).round() for shape in case.shapes]
    )


def compare(case: Case, target: Target, arrays: Sequence[Any]) -> None:
    """Our cotangents in float32 against torch's in float64."""
    tensors = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in arrays]
    y = case.theirs(*tensors)
    seed = np.random.default_rng(1).standard_normal(y.shape).astype("float32")
    expected = torch.autograd.grad(y, tensors, torch.tensor(seed, dtype=torch.float64))
    for got, want in zip(pull(case, target, arrays, seed), expected, strict=True):
        assert got.shape == tuple(want.shape)
        error = np.linalg.norm(got - want.numpy())
        assert error <= TOLERANCE * np.linalg.norm(want.numpy())


def pull(case: Case, target: Target, arrays: Sequence[Any], seed: Any) -> list[Any]:
    """Our cotangents, formulated for a target, in float32 on onnxruntime's CPU."""
    op = Builder()
    fed = [op.input(f"x{i}", TensorType(a.shape)) for i, a in enumerate(arrays)]
    y = case.ours(op, *fed)
    assert y.type.shape == seed.shape
    bars: list[Any] = grad(op, tuple(op.ops), {y: op.input("seed", y.type)}, fed)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        emit(formulate(op.graph(bars, name="gradient"), target).graph).SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
    )
    feeds = {v.name: a.astype("float32") for v, a in zip(fed, arrays, strict=True)}
    feeds["seed"] = seed
    return list(session.run(None, feeds))
