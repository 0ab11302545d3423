"""Layers over space against PyTorch: what they make, and the gradients of all that they read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from netspec.autodiff import grad
from netspec.codegen.builder import Builder
from netspec.codegen.emit import emit
from netspec.codegen.formulate import formulate
from netspec.codegen.target import CPU_PLAIN, CUDA, Target
from netspec.ir.graph import Value
from netspec.ir.types import Shape, TensorType
from netspec.layers import LAYERS
from netspec.training.targets import find_target

torch = pytest.importorskip("torch")
F = torch.nn.functional
pytestmark = pytest.mark.parity

TOLERANCE = 1e-5
"""Of the norm."""


@dataclass(frozen=True)
class Case:
    """A layer in phase TRAIN, and the same in torch: of its bottoms, then its weights."""

    keyword: str
    fields: dict[str, Any]
    bottoms: Sequence[Shape]
    theirs: Callable[..., Any]
    positive: bool = False

    def __str__(self) -> str:
        shapes = ",".join("x".join(map(str, s)) for s in self.bottoms)
        return "-".join([self.keyword, shapes, *(f"{k}={v}" for k, v in self.fields.items())])


@dataclass
class Lowering:
    """What a layer asks for while it is lowered, here random tensors alone."""

    op: Builder = field(default_factory=Builder)
    training: bool = True
    randoms: list[Value] = field(default_factory=list)

    def random(self, shape: Shape) -> Value:
        self.randoms.append(self.op.input(f"random{len(self.randoms)}", TensorType(shape)))
        return self.randoms[-1]


def deconv(**attrs: Any) -> Callable[..., Any]:
    return lambda x, w, *b: F.conv_transpose2d(x, w, *b, **attrs)


def conv1d(**attrs: Any) -> Callable[..., Any]:
    return lambda x, w, *b: F.conv1d(x, w, *b, **attrs)


X = (2, 4, 5, 6)
STEPS = (2, 4, 17)
CASES = [
    Case("conv", {"num_output": 3, "kernel_size": 5}, [STEPS], conv1d()),
    Case(
        "conv",
        {"num_output": 16, "kernel_size": 3, "stride": 2, "pad": 1, "bias_term": False},
        [(2, 16, 15)],
        conv1d(stride=2, padding=1),
    ),
    Case(
        "conv",
        {"num_output": 8, "kernel_size": 3, "dilation": 2, "group": 4},
        [STEPS],
        conv1d(dilation=2, groups=4),
    ),
    Case(
        "deconv",
        {"num_output": 6, "kernel_size": 4, "stride": 2, "pad": 1, "group": 2},
        [STEPS],
        lambda x, w, *b: F.conv_transpose1d(x, w, *b, stride=2, padding=1, groups=2),
    ),
    *(
        Case(
            "pool",
            {"pool": kind, "kernel_size": 3, "stride": stride},
            [(2, channels, 16)],
            theirs(stride),
        )
        for kind, theirs in (
            ("MAX", lambda s: lambda x: F.max_pool1d(x, 3, s, ceil_mode=True)),
            ("AVE", lambda s: lambda x: F.avg_pool1d(x, 3, s, ceil_mode=True)),
        )
        for stride in (1, 2, 3)
        for channels in (4, 16)
    ),
    Case("pool", {"pool": "AVE", "global_pooling": True}, [STEPS], lambda x: x.mean(2, True)),
    Case("deconv", {"num_output": 3, "kernel_size": 3}, [X], deconv()),
    Case(
        "deconv",
        {"num_output": 6, "kernel_size": 4, "stride": 2, "pad": 1, "group": 2},
        [X],
        deconv(stride=2, padding=1, groups=2),
    ),
    Case(
        "deconv",
        {"num_output": 4, "kernel_size": 4, "stride": 2, "pad": 1, "group": 4, "bias_term": False},
        [X],
        deconv(stride=2, padding=1, groups=4),
    ),
    Case(
        "deconv",
        {"num_output": 16, "kernel_size": [3, 2], "stride": [1, 3], "dilation": [2, 1], "pad": 1},
        [(2, 16, 4, 4)],
        deconv(stride=(1, 3), padding=1, dilation=(2, 1)),
    ),
]

each_target = pytest.mark.parametrize(
    "target", [CPU_PLAIN, CUDA, find_target("cpu").target], ids=str
)


@each_target
@pytest.mark.parametrize("case", CASES, ids=str)
def test_layer_and_its_gradient_are_those_of_torch(case: Case, target: Target) -> None:
    rng = np.random.default_rng(0)
    layer = LAYERS[case.keyword].model_validate(case.fields)
    types = [TensorType(shape) for shape in case.bottoms]
    arrays = [rng.standard_normal(t.shape) for t in types]
    if case.positive:
        arrays = [np.abs(a) + 0.5 for a in arrays]
    arrays += [rng.standard_normal(w.shape) for w in layer.weights(types)]
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    y = case.theirs(*tensors)
    y_bar = rng.standard_normal(y.shape)
    bars = torch.autograd.grad(y, tensors, torch.tensor(y_bar))
    for got, want in zip(pull(case, target, arrays, y_bar), (y.detach(), *bars), strict=True):
        assert got.shape == tuple(want.shape)
        assert np.linalg.norm(got - want.numpy()) <= TOLERANCE * np.linalg.norm(want.numpy())


def pull(case: Case, target: Target, arrays: Sequence[Any], y_bar: Any) -> list[Any]:
    """The layer's top and our cotangents, formulated for a target, on onnxruntime's CPU."""
    layer, context = LAYERS[case.keyword].model_validate(case.fields), Lowering()
    op, count = context.op, len(case.bottoms)
    fed = [op.input(f"x{i}", TensorType(a.shape)) for i, a in enumerate(arrays)]
    (y,) = layer.lower(context, fed[:count], fed[count:])  # type: ignore[arg-type]
    assert y.type.shape == y_bar.shape
    bars = grad(op, tuple(op.ops), {y: op.input("y_bar", y.type)}, fed)
    assert all(bars)
    graph = op.graph([y, *(bar for bar in bars if bar)], name="layer")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        emit(formulate(graph, target).graph).SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
    )
    feeds = {v.name: a.astype("float32") for v, a in zip(fed, arrays, strict=True)}
    return list(session.run(None, feeds | {"y_bar": y_bar.astype("float32")}))
