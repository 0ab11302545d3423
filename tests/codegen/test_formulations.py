"""Every formulation of every operator against float64, on random and on awkward numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from math import erf
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from netspec.autodiff import grad
from netspec.codegen import layout
from netspec.codegen.builder import Builder
from netspec.codegen.emit import emit
from netspec.codegen.formulate import formulate
from netspec.codegen.formulation import FORMULATIONS, Forms, Formulation, Sight
from netspec.codegen.operators import GRADIENT, NCHWC
from netspec.codegen.simplify import prune
from netspec.codegen.target import CPU_PLAIN, CUDA, Target
from netspec.ir.graph import Graph, Op, Value, consumers
from netspec.ir.types import TensorType
from netspec.ir.window import Window
from netspec.runtime.device import Device
from netspec.runtime.session import session_options
from netspec.training.execution.targets import target_for


def _references() -> ModuleType:
    path = Path(__file__).with_name("test_formulations_references.py")
    spec = spec_from_file_location("formulation_references", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ref = _references()
Array: TypeAlias = npt.NDArray[Any]
Feeds: TypeAlias = Mapping[str, Array]
Spoilt: TypeAlias = Mapping[Formulation, Formulation]
"""What is taken for a formulation."""

BOUNDS: dict[str, float] = {
    # Exact: nothing is rounded, or not before ȳ of several windows meet.
    "Abs": 0, "Clip": 0, "Concat": 0, "Expand": 0, "Identity": 0, "Max": 0, "MaxPool": 0, "Min": 0,
    "Neg": 0, "ReduceMax": 0, "Relu": 0, "ReluGrad": 0, "Split": 0, "MaxPoolGrad": 2e-7,
    # Rounded once, and once more where r is added behind.
    "Add": 1.2e-7, "Div": 6e-8, "LeakyRelu": 6e-8, "Mul": 1.2e-7, "Reciprocal": 6e-8, "Sqrt": 6e-8,
    "Sub": 1.2e-7, "Sum": 1.2e-7,
    # Functions by polynomials.
    "Elu": 1.2e-7, "Erf": 1.2e-7, "Exp": 1.2e-7, "Log": 1.2e-7, "Pow": 1.2e-7, "Sigmoid": 1.8e-7,
    "Softplus": 7e-7, "Tanh": 3e-7,
    # Sums.
    "Conv": 8e-7, "ConvGradInput": 8e-7, "ConvGradWeight": 8e-7, "AveragePool": 4e-7,
    "AveragePoolGrad": 4e-7, "ReduceMean": 3e-7, "ReduceSum": 3e-7,
    # Sums, differences of them, and a power.
    "BatchNormalization": 1.5e-6, "BatchNormalizationGrad": 1e-6, "LRN": 7e-7, "LRNGrad": 7e-7,
    "residual": 0,
}  # fmt: skip
"""Largest error of each operator, over all of its formulations: about twice what is seen.

A share of the result where that is made of one product; of the sum of the magnitudes of what is
summed; of the largest of its channel in batch normalisation; of 1 for Erf, Sigmoid and Tanh.
"""


@dataclass(frozen=True)
class Expected:
    """An output in float64, and what its errors are measured by, cell by cell."""

    operator: str
    value: Array
    size: Array


@dataclass(frozen=True, eq=False)
class Case:
    """A few operators; images among what is fed reach them plain or in blocks."""

    name: str
    feeds: Feeds
    build: Callable[[Builder, Mapping[str, Value]], Sequence[Value]]
    expect: Callable[[Feeds], Sequence[Expected]]
    """From the same numbers in float64; for each output that `build` returns."""
    exact: bool = False
    """Whether float32 holds every intermediate result."""
    loss: float = 1.0
    """What the bounds are multiplied with, where numbers are as bad as an operator documents."""

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Measured:
    """The largest error of an output."""

    operator: str
    how: str
    error: float


def _in_blocks(forms: Forms, node: Op) -> Sequence[Value]:
    (x,) = node.inputs
    assert x is not None
    return (forms.blocked(x),)


SOURCE = Formulation("Identity", "source", "blocked", lambda _, __: True, _in_blocks, (0,), False)
"""Exact, so that what is blocked by it is what is fed."""


@cache
def graph_of(case: Case) -> tuple[Graph, Mapping[Op, str]]:
    """The graph as a step has it, and the sources of its images."""
    op = Builder()
    fed = {
        name: op.input(name, TensorType(a.shape, str(a.dtype))) for name, a in case.feeds.items()
    }
    given = {n: op.Identity(v) if len(v.type.shape) == 4 else v for n, v in fed.items()}
    names = {value: name for name, value in given.items()}
    sources = {node: names[node.outputs[0]] for node in op.ops}
    outputs = tuple(case.build(op, given))
    return prune(op.graph(outputs, name=case.name)), sources


@dataclass(frozen=True)
class Way:
    """One of the ways in which a case can be computed."""

    blocked: tuple[str, ...]
    """Images that are given in blocks."""
    plan: layout.Plan
    taken: tuple[tuple[str, str], ...]
    """Operators and formulations, `as it is` where there is none."""

    def __str__(self) -> str:
        return f"{'+'.join(self.blocked) or 'none'} in blocks: {dict(self.taken)}"


_right = layout.candidates


def _plan(
    case: Case, target: Target, blocked: Sequence[str], index: int, spoilt: Spoilt
) -> tuple[Way, int]:
    """The plan that takes of each operator's formulations the one at `index`, or its last."""
    graph, sources = graph_of(case)
    taken: list[tuple[str, str]] = []
    most = 0

    def candidates(node: Op, sight: Sight) -> list[Formulation]:
        nonlocal most
        if node in sources:
            return [SOURCE] if sources[node] in blocked else []
        options: list[Formulation | None] = list(_right(node, sight))
        if node.domain != GRADIENT and not any(f and f.layout == "plain" for f in options):
            options.append(None)  # the operator as it is
        most = max(most, len(options) - 1)
        found = options[min(index, len(options) - 1)]
        taken.append((node.op_type, found.name if found else "as it is"))
        return [spoilt.get(found, found)] if found else []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "candidates", candidates)
        plan = layout.plan(graph, target)
    return Way(tuple(blocked), plan, tuple(taken)), most


def ways(case: Case, target: Target, spoilt: Spoilt | None = None) -> Iterator[Way]:
    """Images plain, in blocks and mixed, each with every formulation that is right; none twice."""
    _, sources = graph_of(case)
    names = tuple(sources.values())
    layouts = ((), names, names[::2], names[1::2]) if target.block else ((),)
    for blocked in dict.fromkeys(layouts):
        index = most = 0
        seen = set()
        while index <= most:
            way, most = _plan(case, target, blocked, index, spoilt or {})
            if way.taken not in seen:
                seen.add(way.taken)
                yield way
            index += 1


def run(graph: Graph, feeds: Feeds) -> list[Array]:
    """The graph on one thread, as a training runs it."""
    options = session_options(Device("cpu"))
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        emit(graph).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, {info.name: feeds[info.name] for info in session.get_inputs()}))


@cache
def expected(case: Case) -> Sequence[Expected]:
    return case.expect({k: a.astype(np.float64) for k, a in case.feeds.items()})


def measure(case: Case, target: Target, way: Way) -> Iterator[Measured]:
    """The errors of a case's outputs; asserts that what fills the last blocks is zero."""
    graph, _ = graph_of(case)
    formulated = formulate(graph, target, way.plan)
    assert all(target.runs(node) and node.domain != GRADIENT for node in formulated.graph.ops)
    filled = {
        node.inputs[0]: node.attrs["channels"]
        for node in formulated.graph.ops
        if node.op_type == "ReorderOutput" and node.inputs[0] not in formulated.graph.inputs
    }
    outputs = (*formulated.graph.outputs, *(v for v in filled if v))
    got = run(replace(formulated.graph, outputs=outputs), case.feeds)
    for array, channels in zip(got[len(formulated.graph.outputs) :], filled.values(), strict=True):
        n, c, h, w = array.shape
        lanes = array.reshape(n, c // target.block, h * w, target.block).swapaxes(2, 3)
        assert not lanes.reshape(n, c, h * w)[:, channels:].any(), f"{way}: filling is not zero"
    names = {type: "+".join(f for t, f in way.taken if t == type) for type, _ in way.taken}
    for array, wanted in zip(got, expected(case), strict=False):
        assert array.shape == wanted.value.shape
        assert np.isfinite(array).all(), way
        how = names.get(wanted.operator, "")
        apart = np.abs(array - wanted.value)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(apart == 0, 0, apart / wanted.size)
        yield Measured(wanted.operator, how, float(share.max()))


def check(case: Case, target: Target, way: Way) -> None:
    for found in measure(case, target, way):
        bound = 0 if case.exact else BOUNDS[found.operator] * case.loss
        assert found.error <= bound, f"{case}, {way}: {found}"


def draw(kind: str, *shapes: Sequence[int]) -> list[Array]:
    """Numbers of a kind, in float32."""
    rng = np.random.default_rng(len(kind) + sum(map(sum, shapes)))
    return [np.array(_DRAWN[kind](rng, tuple(shape)), np.float32) for shape in shapes]


_DRAWN: Mapping[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "positive": lambda rng, shape: 0.1 + rng.random(shape),
    "negative": lambda rng, shape: -0.1 - rng.random(shape),
    "whole": lambda rng, shape: rng.integers(-3, 4, shape),
    "pairs": lambda rng, shape: rng.integers(-2, 0, shape),  # ties, all of them below zero
    "equal": lambda rng, shape: np.full(shape, -1.5),
    "zero": lambda rng, shape: np.zeros(shape),
    "wide": lambda rng, shape: rng.standard_normal(shape) * 10.0 ** rng.uniform(-6, 6, shape),
    "denormal": lambda rng, shape: rng.standard_normal(shape) * 1e-40,
}
"""`whole` and what follows are exact in float32 as long as sums stay below 2^24."""


def all_of(values: Array) -> Array:
    """The largest magnitude, for every cell."""
    return np.full(values.shape, np.abs(values).max())


def two(size: int | tuple[int, int]) -> tuple[int, int]:
    return size if isinstance(size, tuple) else (size, size)


Size: TypeAlias = int | tuple[int, int]


def convolution(
    n: int, c: int, m: int, extent: Size, kernel: Size, stride: Size = 1, pad: Size = 0,
    dilation: Size = 1, group: int = 1, kind: str = "normal", bias: bool = True,
) -> Case:  # fmt: skip
    """y = conv(x, w) + b, x̄ and w̄."""
    extent, kernel = two(extent), two(kernel)
    slide: dict[str, Any] = {"stride": two(stride), "pad": two(pad), "dilation": two(dilation)}
    window = Window(kernel, slide["stride"], slide["pad"], slide["dilation"])
    shapes = (n, c, *extent), (m, c // group, *kernel), (n, m, *window.positions(extent)), (m,)
    drawn = dict(zip(("x", "w", "y_bar", "b"), draw(kind, *shapes), strict=True))
    if kind == "denormal":
        drawn |= {"w": drawn["w"] * 1e20 * 1e25, "y_bar": drawn["y_bar"] * 1e20 * 1e25}
    attrs = {
        "kernel_shape": kernel, "strides": slide["stride"], "pads": window.pads,
        "dilations": slide["dilation"], "group": group,
    }  # fmt: skip
    slide["group"] = group

    def build(op: Builder, given: Mapping[str, Value]) -> Sequence[Value]:
        x, w, y_bar = (given[name] for name in ("x", "w", "y_bar"))
        return (
            op.Conv(x, w, given["b"] if bias else None, **attrs),
            op.ConvGradInput(y_bar, w, shape=x.type.shape, **attrs),
            op.ConvGradWeight(x, y_bar, shape=w.type.shape, **attrs),
        )

    def made(x: Array, w: Array, y_bar: Array, b: Array) -> list[Array]:
        return [
            ref.conv(x, w, **slide) + b.reshape(-1, 1, 1) * bias,
            ref.conv_grad_input(y_bar, w, extent, **slide),
            ref.conv_grad_weight(x, y_bar, kernel, **slide),
        ]

    def expect(feeds: Feeds) -> Sequence[Expected]:
        x, w, y_bar, b = feeds["x"], feeds["w"], feeds["y_bar"], feeds["b"]
        sizes = made(*map(np.abs, (x, w, y_bar, b)))
        operators = ("Conv", "ConvGradInput", "ConvGradWeight")
        return list(map(Expected, operators, made(x, w, y_bar, b), sizes))

    given = f"{n}x{c}x{extent[0]}x{extent[1]} to {m} by {kernel[0]}x{kernel[1]}"
    said = {"stride": stride, "pad": pad, "dilation": dilation, "group": group, "kind": kind}
    usual = {"stride": 1, "pad": 0, "dilation": 1, "group": 1, "kind": "normal"}
    name = " ".join([given, *(f"{k} {v}" for k, v in said.items() if v != usual[k])])
    return Case(f"conv {name}", drawn, build, expect, exact=kind in ("whole", "zero"))


CONVOLUTIONS = [
    convolution(2, 16, 16, (6, 5), 3, 1, 1),
    convolution(1, 1, 5, 7, 3, 1, 1),
    convolution(2, 3, 20, (9, 8), 5, 1, 2),
    convolution(15, 5, 24, 6, 3, bias=False),
    convolution(16, 20, 50, 5, 3, 1, 1),
    convolution(17, 24, 20, (5, 6), 3, 2, 1),
    convolution(31, 50, 5, 4, 1),
    convolution(2, 3, 64, 23, 7, 2, 3),
    convolution(2, 3, 48, 35, 11, 4),
    convolution(2, 32, 16, (6, 9), (1, 7), 1, (0, 3)),
    convolution(2, 16, 32, (9, 6), (7, 1), 1, (3, 0)),
    # Steps that do not divide, cells that no filter reaches, windows of one tap.
    convolution(2, 32, 48, 7, 1, 2),
    convolution(2, 32, 48, 8, 1, 2),
    convolution(3, 20, 24, (7, 8), 1, (1, 3)),
    convolution(2, 16, 32, (9, 8), 3, 2, 1),
    convolution(2, 16, 32, (8, 9), 3, 2),
    convolution(2, 32, 32, (7, 10), 3, (3, 2)),
    convolution(2, 16, 16, (11, 10), 2, 3),
    convolution(2, 16, 16, (9, 9), 5, 3, 2),
    convolution(2, 32, 16, (8, 11), 4, 2, 1),
    # Padding as wide as the kernel, and wider.
    convolution(2, 16, 32, 5, 3, 1, 2),
    convolution(2, 32, 16, 5, 5, 1, 4),
    convolution(2, 16, 16, 5, 3, 1, 3),
    convolution(2, 16, 16, 5, 1, 1, 1),
    convolution(2, 16, 16, 5, 3, 2, (2, 0)),
    convolution(2, 16, 16, 9, 3, 1, 2, 2),
    convolution(2, 32, 16, (11, 12), 3, 2, 1, (2, 3)),
    convolution(2, 5, 16, 9, 3, 1, 2, 2),
    # Groups: whole blocks, parts of blocks, one channel each.
    convolution(3, 32, 64, 6, 3, 1, 1, group=2),
    convolution(3, 64, 32, 7, 3, 2, 1, group=2),
    convolution(17, 64, 64, 4, 1, group=4),
    convolution(2, 32, 32, 7, 1, 2, group=2),
    convolution(2, 32, 32, 6, 3, 1, 1, group=4),
    convolution(2, 20, 30, 6, 3, 2, 1, group=2),
    convolution(3, 32, 32, (6, 7), 3, 1, 1, group=32),
    convolution(17, 16, 16, 7, 3, 2, 1, group=16),
    convolution(2, 32, 32, 9, 5, 2, 2, group=32),
    convolution(2, 16, 16, 6, 1, group=16),
    convolution(2, 16, 16, 9, 3, 1, 2, 2, group=16),
    convolution(2, 20, 20, 6, 3, 1, 1, group=20),
    convolution(2, 16, 32, 6, 3, 1, 1, group=16),
    # One cell; a kernel as large as the image; planes large enough for other ways.
    convolution(3, 32, 48, 1, 1),
    convolution(16, 32, 20, 1, 3, 1, 1),
    convolution(2, 16, 32, 5, 5),
    convolution(2, 32, 48, 9, 3, 1, 1),
    convolution(31, 32, 32, 3, 3, 1, 1),
    convolution(15, 16, 16, 3, 3, 1, 1),
    convolution(16, 16, 16, 3, 3, 1, 1),
    convolution(17, 32, 20, 4, 2, 2),
    convolution(3, 20, 20, 32, 1),
    *(
        convolution(*shape, kind=kind)
        for kind in ("whole", "zero", "wide", "denormal")
        for shape in (
            (3, 32, 20, (6, 7), 3, 1, 1),
            (17, 5, 16, 7, 5, 2, 2),
            (2, 16, 16, 7, 3, 2, 1, 1, 16),
            (2, 16, 32, 6, 1, 2),
            (2, 20, 16, 6, 2, 1, 1),
        )
    ),
]


def pooling(
    op_type: str, n: int, c: int, extent: Size, kernel: Size, stride: Size = 1, pad: Size = 0,
    end: Size | None = None, ceil: bool = False, counted: bool = False, kind: str = "normal",
    relu: bool = False, exact: bool = False,
) -> Case:  # fmt: skip
    """Windows and their gradient; with `relu`, that of a Relu before them, too."""
    extent, kernel, stride, pad = two(extent), two(kernel), two(stride), two(pad)
    end = pad if end is None else two(end)
    room = [
        (e + p + q - k + (s - 1) * ceil) // s + 1
        for e, k, s, p, q in zip(extent, kernel, stride, pad, end, strict=True)
    ]
    positions = (room[0], room[1])
    x, _ = draw(kind, (n, c, *extent), (1,))
    y_bar, _ = draw("whole" if exact else "normal", (n, c, *positions), (2,))
    attrs = {
        "kernel_shape": kernel, "strides": stride, "pads": (*pad, *end), "ceil_mode": int(ceil),
    }  # fmt: skip
    at: dict[str, Any] = {"kernel": kernel, "stride": stride, "pad": pad, "positions": positions}

    def build(op: Builder, given: Mapping[str, Value]) -> Sequence[Value]:
        x, y_bar = given["x"], given["y_bar"]
        if op_type == "AveragePool":
            more = attrs | {"count_include_pad": int(counted)}
            y = op.AveragePool(x, **more)
            return y, op.AveragePoolGrad(y_bar, shape=x.type.shape, **more)
        if relu:
            x = op.Relu(x)
        y, indices = op.MaxPool(x, outputs=2, **attrs)
        assert y.type.spatial == positions
        if relu:  # as `before_unpooling` leaves it
            y_bar = op.ReluGrad(y_bar, y)
        return y, op.MaxPoolGrad(y_bar, x, y, indices, **attrs)

    def expect(feeds: Feeds) -> Sequence[Expected]:
        x, y_bar = feeds["x"], feeds["y_bar"]
        if op_type == "AveragePool":
            more = at | {"end": end, "counted": counted}
            parts = ref.average_pool(x, y_bar, **more)
            sizes = ref.average_pool(np.abs(x), np.abs(y_bar), **more)
        else:
            kept = np.maximum(x, 0) if relu else x
            y, x_bar = ref.max_pool(kept, y_bar, **at)
            _, size = ref.max_pool(kept, np.abs(y_bar), **at)
            parts, sizes = (y, x_bar * (x > 0) if relu else x_bar), (np.abs(y), size)
        return list(map(Expected, (op_type, f"{op_type}Grad"), parts, sizes))

    name = f"{op_type} {n}x{c}x{extent} by {kernel} stride {stride} pads {pad} {end} {kind}"
    more = "".join([" ceil" * ceil, " counted" * counted, " relu" * relu])
    return Case(name + more, {"x": x, "y_bar": y_bar}, build, expect, exact)


WINDOWS: list[tuple[Any, ...]] = [
    (2, 16, (8, 6), 2, 2),
    (2, 20, (7, 9), 2, 2),
    (3, 5, 7, 3, 2),
    (2, 16, (8, 7), 3, 2, 1),
    (17, 24, 6, 3, 1, 1),
    (2, 16, (9, 7), (3, 2), (2, 3), (1, 0)),
    (2, 32, 5, 5, 5),
    (2, 16, (11, 10), 2, 3),
    (2, 16, 6, 1, 2),
    (2, 50, 6, 4, 2, 3),
    (1, 3, 5, 5, 2, 4),
    (2, 16, (4, 3), (4, 3)),
    (31, 16, 1, 1),
    (2, 16, (3, 9), (1, 7), 1, (0, 3)),
    # As `lower` has Caffe's: the last windows hang over, one axis at times cut to fit.
    (2, 16, 8, 3, 2, 0, 0, True),
    (2, 20, (8, 9), 3, 2, 1, (1, 0), True),
    (2, 16, (9, 8), 3, 2, 1, (0, 1), True),
    (2, 16, (7, 8), 2, 2, 0, 0, True),
    (2, 24, (10, 6), 4, 3, 1, 1, True),
    (2, 16, 27, 3, 2, 0, 0, True),
]
POOLINGS = [
    *(pooling("MaxPool", *w) for w in WINDOWS),
    *(
        pooling("MaxPool", *w, kind=kind, exact=True, relu=relu)
        for w in WINDOWS
        for kind, relu in (("pairs", False), ("equal", False), ("whole", True))
    ),
    pooling("MaxPool", 2, 16, 8, 3, 2, 1, kind="zero"),
    pooling("MaxPool", 2, 16, 8, 3, 2, 1, kind="zero", relu=True),
    pooling("MaxPool", 2, 16, 8, 2, 2, kind="wide"),
    pooling("MaxPool", 2, 16, 8, 3, 1, 1, kind="negative", relu=True),
    *(
        pooling("AveragePool", *w, counted=counted)
        for w in WINDOWS
        for counted in ((True,) if len(w) > 6 else (True, False))
    ),
    pooling("AveragePool", 2, 20, 8, 3, 2, 1, kind="wide"),
    pooling("AveragePool", 2, 16, 8, 2, 2, kind="zero"),
]


def vector(x: Array) -> Array:
    """One number per channel, to broadcast over an image."""
    return x.reshape(-1, *(1 for _ in range(2)))


def normalization(
    shape: tuple[int, ...], offset: float = 0.0, kind: str = "normal", first: float = 0.0,
    spread: bool = False,
) -> Case:  # fmt: skip
    """By the batch's own statistics, with a mean of so many deviations, and its gradients."""
    c = shape[1]
    x, y_bar, scale, bias = draw(kind, shape, shape, (c,), (c,))
    if kind == "zero":
        y_bar, scale, bias = draw("normal", shape, (c,), (c,))
    x = x + np.float32(offset)
    x[0] += np.float32(first)
    if spread:
        x = x * (10.0 ** np.linspace(-2, 6, c)).astype(np.float32).reshape(c, 1, 1)
    epsilon, axes = 1e-5, (0, *range(2, len(shape)))

    def build(op: Builder, given: Mapping[str, Value]) -> Sequence[Value]:
        none = op.constant(np.zeros(c, np.float32))
        x, scale, bias, y_bar = (given[name] for name in ("x", "scale", "bias", "y_bar"))
        y, mean, variance = op.BatchNormalization(
            x, scale, bias, none, none, outputs=3, training_mode=1, momentum=0.0, epsilon=epsilon
        )
        bars = op.BatchNormalizationGrad(
            y_bar, x, scale, mean, variance, outputs=3, epsilon=epsilon
        )
        return y, mean, variance, *bars

    def expect(feeds: Feeds) -> Sequence[Expected]:
        x, y_bar = feeds["x"], feeds["y_bar"]
        scale, bias = (feeds[k].reshape(-1, *(1,) * (len(shape) - 2)) for k in ("scale", "bias"))
        mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
        inverse = 1 / np.sqrt(variance + epsilon)
        normal = (x - mean) * inverse
        y = normal * scale + bias
        felt = y_bar - y_bar.mean(axes, keepdims=True)
        felt = felt - normal * (y_bar * normal).mean(axes, keepdims=True)
        top = np.abs(y_bar).max(axes, keepdims=True)
        forward, back = "BatchNormalization", "BatchNormalizationGrad"
        most = (np.abs(normal * scale) + np.abs(bias)).max(axes, keepdims=True) + 0 * x
        steep = np.abs(scale) * inverse * top + 0 * x
        # Where a channel is constant, x̂ is 0 but for the rounding of its cells.
        felt_most = (np.abs(y_bar) * np.maximum(np.abs(normal), 1e-2)).sum(axes)
        flat = variance.ravel()
        return [
            Expected(forward, y, most),
            Expected(forward, mean.ravel(), np.abs(x).mean(axes)),
            Expected(forward, flat, flat + epsilon),
            Expected(back, scale * inverse * felt, steep),
            Expected(back, (y_bar * normal).sum(axes), felt_most),
            Expected(back, y_bar.sum(axes), np.abs(y_bar).sum(axes)),
        ]

    name = f"batch norm {shape} offset {offset} first {first} {kind}{' spread' * spread}"
    feeds = {"x": x, "y_bar": y_bar, "scale": scale, "bias": bias}
    return Case(name, feeds, build, expect, loss=shape[0] + 1 if first else 1.0)


NORMALIZATIONS = [
    *(
        normalization(shape, offset)
        for shape in (
            (2, 16, 5, 4),
            (16, 20, 4, 3),
            (31, 48, 3, 3),
            (1, 16, 7, 7),
            (17, 24, 1, 1),
            (2, 5, 6, 6),
            (15, 3, 9, 2),
            (2, 16, 30, 31),
        )
        for offset in (0.0, -1000.0)
    ),
    normalization((8, 5)),
    normalization((8, 5), 1000.0),
    normalization((2, 16, 6, 5), kind="zero"),
    normalization((3, 20, 6, 5), 1000.1, kind="zero"),
    normalization((3, 20, 6, 5), 0.7, kind="zero"),
    # The mean of the first image is far from that of the batch.
    normalization((2, 16, 4, 4), first=1000.0),
    normalization((31, 20, 4, 4), first=1000.0),
    normalization((31, 16, 4, 4), 1000.0, first=-1000.0),
    normalization((8, 20, 4, 4), spread=True),
    normalization((8, 20, 4, 4), 3.0, spread=True),
]


def running(n: int, c: int, offset: float, epsilon: float | None = None) -> Case:
    """Normalisation by running statistics."""
    x, scale, bias, mean, variance = draw("normal", (n, c, 4, 5), *[(c,)] * 4)
    mean, x = mean + np.float32(offset), x + np.float32(offset)
    feeds = {"x": x, "scale": scale, "bias": bias, "mean": mean, "variance": np.abs(variance)}
    attrs = {} if epsilon is None else {"epsilon": epsilon}

    def build(op: Builder, given: Mapping[str, Value]) -> Sequence[Value]:
        return (op.BatchNormalization(*(given[name] for name in feeds), **attrs),)

    def expect(feeds: Feeds) -> Sequence[Expected]:
        names = ("scale", "bias", "mean", "variance")
        x, (scale, bias, mean, variance) = feeds["x"], (vector(feeds[name]) for name in names)
        factor = scale / np.sqrt(variance + (epsilon or 1e-5))
        # Half of a sum that cancels: μ·scale/σ is made before x is seen.
        size = (np.abs(x) + np.abs(mean)) * np.abs(factor) + np.abs(bias)
        return [Expected("BatchNormalization", (x - mean) * factor + bias, size)]

    return Case(f"batch norm by running {n}x{c} offset {offset}", feeds, build, expect)


def response(
    n: int, c: int, extent: Size, size: int, alpha: float, beta: float, k: float,
    kind: str = "normal",
) -> Case:  # fmt: skip
    """y = x·b^-β and its gradient."""
    x, y_bar = draw(kind, *[(n, c, *two(extent))] * 2)
    attrs = {"size": size, "alpha": alpha, "beta": beta, "bias": k}

    def build(op: Builder, given: Mapping[str, Value]) -> Sequence[Value]:
        x, y_bar = given["x"], given["y_bar"]
        y = op.LRN(x, **attrs)
        return y, op.LRNGrad(y_bar, x, y, **attrs)

    def expect(feeds: Feeds) -> Sequence[Expected]:
        x, y_bar = feeds["x"], feeds["y_bar"]
        base = k + alpha / size * ref.neighbours(x * x, size)
        y, own, factor = x * base**-beta, y_bar * base**-beta, 2 * alpha * beta / size
        felt = factor * x * ref.neighbours(y_bar * y / base, size)
        most = factor * np.abs(x) * ref.neighbours(np.abs(y_bar * y) / base, size)
        return [
            Expected("LRN", y, np.abs(y)),
            Expected("LRNGrad", own - felt, np.abs(own) + most),
        ]

    name = f"lrn {n}x{c}x{extent} size {size} {alpha} {beta} {k} {kind}"
    return Case(name, {"x": x, "y_bar": y_bar}, build, expect)


RESPONSES = [
    response(2, 16, (5, 4), 5, 1e-4, 0.75, 1.0),
    response(3, 20, 3, 5, 1.0, 0.75, 2.0),
    response(2, 50, (3, 5), 3, 0.7, 0.5, 1.0),
    response(17, 5, 3, 3, 0.5, 1.0, 1.0),
    response(2, 3, 4, 7, 0.5, 0.25, 0.5),
    response(2, 32, 1, 5, 0.3, 0.6, 1.0),
    response(1, 48, 4, 15, 1.0, 2.0, 1.0),
    response(2, 20, 4, 5, 1.0, 0.75, 1.0, kind="wide"),
    response(2, 20, 4, 5, 1.0, 0.75, 1.0, kind="zero"),
]


def cellwise(
    op_type: str, compute: Callable[..., Array], *shapes: tuple[int, ...], kind: str = "normal",
    size: Callable[[Array], Array] = np.abs, **attrs: Any,
) -> Case:  # fmt: skip
    """An operator that works cell by cell; `()` and vectors broadcast."""
    names = [f"x{i}" for i in range(len(shapes))]
    feeds = dict(zip(names, draw(kind, *shapes), strict=True))

    def build(op: Builder, given: Mapping[str, Value]) -> Sequence[Value]:
        inputs = [given[name] for name in names]
        if op_type == "Clip":
            inputs = [*inputs, None, op.scalar(0.7)] if attrs["open"] else [
                *inputs, op.scalar(-0.6), op.scalar(0.7)
            ]  # fmt: skip
            return (op.Clip(*inputs),)
        return (getattr(op, op_type)(*inputs, **attrs),)

    def expect(feeds: Feeds) -> Sequence[Expected]:
        value = compute(*feeds.values())
        return [Expected(op_type, value, size(value))]

    said = " ".join(["x".join(map(str, s)) or "number" for s in shapes] + [kind] + [f"{attrs}"])
    return Case(f"{op_type} {said}", feeds, build, expect)


FULL, PART, CELL = (2, 32, 3, 5), (3, 20, 4, 3), (2, 20, 1, 1)


def cut(low: float) -> Callable[[Array], Array]:
    return lambda x: np.clip(x, np.float32(low), np.float32(0.7))


def slopes(below: Callable[[Array], Array]) -> Callable[[Array], Array]:
    return lambda x: np.where(x > 0, x, below(x))


CELLWISE = [
    case
    for shape in (FULL, PART, CELL)
    for case in (
        cellwise("Abs", np.abs, shape),
        cellwise("Add", np.add, shape, shape),
        cellwise("Add", np.add, shape, ()),
        cellwise("Clip", cut(-0.6), shape, open=False),
        cellwise("Clip", cut(-np.inf), shape, open=True),
        cellwise("Div", np.divide, shape, shape, kind="positive"),
        cellwise("Div", np.divide, (), shape, kind="positive"),
        cellwise("Elu", slopes(lambda x: np.float32(0.3) * np.expm1(x)), shape, alpha=0.3,
                 size=lambda y: np.abs(y) + 0.3),
        cellwise("Erf", np.vectorize(erf), shape, size=np.ones_like),
        cellwise("Exp", np.exp, shape),
        cellwise("Identity", np.array, shape),
        cellwise("LeakyRelu", slopes(lambda x: np.float32(0.1) * x), shape, alpha=0.1),
        cellwise("Log", np.log, shape, kind="positive", size=lambda y: np.abs(y) + 1),
        cellwise("Max", lambda *x: np.maximum.reduce(x), shape, shape, shape),
        cellwise("Max", np.maximum, shape, ()),
        cellwise("Min", np.minimum, shape, shape),
        cellwise("Min", np.array, shape),
        cellwise("Mul", np.multiply, shape, shape),
        cellwise("Mul", np.multiply, (), shape),
        cellwise("Neg", np.negative, shape),
        cellwise("Pow", np.power, shape, (), kind="positive"),
        cellwise("Pow", np.power, shape, shape, kind="positive"),
        cellwise("Reciprocal", np.reciprocal, shape, kind="positive"),
        cellwise("Relu", lambda x: np.maximum(x, 0), shape),
        cellwise("Relu", lambda x: np.maximum(x, 0), shape, kind="denormal"),
        cellwise("Sigmoid", lambda x: 1 / (1 + np.exp(-x)), shape, size=np.ones_like),
        cellwise("Softplus", lambda x: np.logaddexp(0, x), shape),
        cellwise("Sqrt", np.sqrt, shape, kind="positive"),
        cellwise("Sub", np.subtract, shape, shape),
        cellwise("Sub", np.subtract, (), shape),
        cellwise("Sum", lambda x, y, z: x + y + z, shape, shape, shape, size=all_of),
        cellwise("Tanh", np.tanh, shape, size=np.ones_like),
    )
]  # fmt: skip
BY_CHANNEL = [
    case
    for shape, vector_shape in (
        (FULL, (32, 1, 1)),
        (PART, (1, 20, 1, 1)),
        (PART, (20, 1, 1)),
        (CELL, (20, 1, 1)),
        (CELL, (1, 20, 1, 1)),
        ((1, 16, 1, 1), (16, 1, 1)),
        ((4, 1, 3, 3), (1, 1, 1)),
        ((2, 16, 16, 16), (16, 1)),  # along another axis
        ((2, 16, 4, 5), (2, 1, 1, 1)),
        ((2, 16, 4, 5), (2, 16, 1, 1)),
    )
    for case in (
        cellwise("Add", np.add, shape, vector_shape),
        cellwise("Add", np.add, vector_shape, shape),
        cellwise("Mul", np.multiply, shape, vector_shape),
        cellwise("Mul", np.multiply, vector_shape, shape, kind="wide"),
        cellwise("Sub", np.subtract, shape, vector_shape),
        cellwise("Sub", np.subtract, vector_shape, shape),
        cellwise("Max", np.maximum, shape, vector_shape),
    )
]


def slope(shape: tuple[int, ...]) -> Case:
    """x̄ = ȳ·[y > 0], from the smallest normal number on."""
    y_bar, y = draw("normal", shape, shape)
    tiny = np.finfo(np.float32).tiny
    y.ravel()[:8] = [0, -0.0, tiny, -tiny, 3e38, -3e38, 1e-37, -1e-37]

    def build(op: Builder, given: Mapping[str, Value]) -> Sequence[Value]:
        return (op.ReluGrad(given["y_bar"], given["y"]),)

    def expect(feeds: Feeds) -> Sequence[Expected]:
        x_bar = feeds["y_bar"] * (feeds["y"] > 0)
        return [Expected("ReluGrad", x_bar, np.abs(x_bar))]

    return Case(f"relu grad {shape}", {"y_bar": y_bar, "y": y}, build, expect)


def joined(*channels: int, axis: int = 1, images: int = 3) -> Case:
    shapes = [[images, c, 4, 3] if axis in (1, -3) else [images, 20, c, 3] for c in channels]
    feeds = {f"x{i}": a for i, a in enumerate(draw("normal", *shapes))}

    def build(op: Builder, given: Mapping[str, Value]) -> Sequence[Value]:
        return (op.Concat(*given.values(), axis=axis),)

    def expect(feeds: Feeds) -> Sequence[Expected]:
        y = np.concatenate(list(feeds.values()), axis)
        return [Expected("Concat", y, np.abs(y))]

    return Case(f"concat {channels} axis {axis}", feeds, build, expect)


def parted(*channels: int, axis: int = 1) -> Case:
    (x,) = draw(
        "normal", [3, sum(channels), 4, 3] if axis in (1, -3) else [3, 16, 4, sum(channels)]
    )

    def build(op: Builder, given: Mapping[str, Value]) -> Sequence[Value]:
        count = len(channels)
        made = op.Split(given["x"], op.ints(*channels), outputs=count, axis=axis)
        return (made,) if count == 1 else made

    def expect(feeds: Feeds) -> Sequence[Expected]:
        parts = np.split(feeds["x"], np.cumsum(channels)[:-1], axis)
        return [Expected("Split", y, np.abs(y)) for y in parts]

    return Case(f"split {channels} axis {axis}", {"x": x}, build, expect)


def reduction(
    op_type: str, shape: tuple[int, ...], axes: tuple[int, ...], keep: bool, kind: str = "normal"
) -> Case:
    (x,) = draw(kind, shape)

    def build(op: Builder, given: Mapping[str, Value]) -> Sequence[Value]:
        return (getattr(op, op_type)(given["x"], op.ints(*axes), keepdims=int(keep)),)

    def expect(feeds: Feeds) -> Sequence[Expected]:
        reduce = {"ReduceMax": np.max, "ReduceMean": np.mean, "ReduceSum": np.sum}[op_type]
        y, size = (reduce(v, axis=axes, keepdims=keep) for v in (feeds["x"], np.abs(feeds["x"])))
        return [Expected(op_type, y, size)]

    return Case(f"{op_type} {shape} over {axes} keep {keep} {kind}", {"x": x}, build, expect)


def expansion(n: int, c: int, extent: tuple[int, int]) -> Case:
    """A number per plane, spread for someone who adds it to an image."""
    x, image = draw("normal", (n, c, 1, 1), (n, c, *extent))

    def build(op: Builder, given: Mapping[str, Value]) -> Sequence[Value]:
        spread = op.Expand(given["x"], op.ints(n, c, *extent))
        return spread, op.Add(spread, given["image"])

    def expect(feeds: Feeds) -> Sequence[Expected]:
        y = np.broadcast_to(feeds["x"], feeds["image"].shape)
        total = y + feeds["image"]
        return [Expected("Expand", y, np.abs(y)), Expected("Add", total, np.abs(total))]

    return Case(f"expand {n}x{c}x{extent}", {"x": x, "image": image}, build, expect)


SHAPES = [
    slope(FULL),
    slope(PART),
    slope((9, 20)),
    joined(16, 32),
    joined(16, 16, 48, axis=-3),
    joined(16, 20),
    joined(3, 4, axis=2),
    joined(16, 32, axis=2),
    joined(*[16] * 40, images=1),
    parted(16, 32),
    parted(32, 16, 16, axis=-3),
    parted(48),
    parted(16, 4),
    parted(5, 7, axis=3),
    parted(*[1] * 40),
    *(
        reduction(op_type, shape, axes, keep)
        for op_type in ("ReduceMean", "ReduceSum")
        for keep in (False, True)
        for shape in ((2, 16, 5, 7), (17, 20, 4, 3), (3, 50, 2, 2), (2, 16, 1, 1))
        for axes in ((2, 3), (0, 2, 3), (1,), (3,))
    ),
    # Over other axes, with what looks like a number per plane.
    *(
        reduction(op_type, (4, 16, *extent), axes, False)
        for op_type in ("ReduceMean", "ReduceSum")
        for extent, axes in (((4, 16), (0, 1)), ((5, 16), (1, 2)), ((16, 3), (1, 3)))
    ),
    reduction("ReduceMax", (2, 20, 6, 6), (1,), True),
    reduction("ReduceMax", (2, 20, 6, 6), (0, 2), True),
    reduction("ReduceSum", (2, 20, 6, 6), (2, 3), False, kind="wide"),
    reduction("ReduceSum", (2, 20, 6, 6), (-1, -2), False),
    reduction("ReduceMean", (1, 16, 16, 3), (-4, -2, -1), True),
    reduction("ReduceMean", (2, 20, 60, 61), (2, 3), False),
    reduction("ReduceSum", (2, 20, 60, 61), (2, 3), False),
    expansion(2, 32, (3, 5)),
    expansion(17, 20, (4, 4)),
    expansion(2, 3, (1, 6)),
]
RUNNING = [
    running(2, 16, 0.0),
    running(3, 20, 1000.0, 1e-3),
    running(17, 5, 1.0),
]


def followed(
    base: Case, output: int, *, add: bool = True, relu: bool = True, per_plane: bool = False
) -> Case:
    """An output with what may be done on its way: y + r, and then what is above zero."""
    shape = expected(base)[output].value.shape
    shape = (*shape[:2], 1, 1) if per_plane else shape
    (r,) = draw("whole" if base.exact else "normal", shape)

    def build(op: Builder, given: Mapping[str, Value]) -> Sequence[Value]:
        made = list(base.build(op, given))
        y = made.pop(output)
        y = op.Add(given["r"], y) if add else y
        return op.Relu(y) if relu else y, *made

    def expect(feeds: Feeds) -> Sequence[Expected]:
        wanted = list(base.expect({k: feeds[k] for k in base.feeds}))
        first = wanted.pop(output)
        y, size = first.value, first.size
        if add:
            y, size = y + feeds["r"], size + np.abs(feeds["r"])
        return [replace(first, value=np.maximum(y, 0) if relu else y, size=size), *wanted]

    name = f"{base} output {output}{' + r' * add}{' per plane' * per_plane}{' relu' * relu}"
    feeds = {**base.feeds, "r": r} if add else base.feeds
    return Case(name, feeds, build, expect, exact=base.exact, loss=base.loss)


FOLLOWED = [
    followed(case, output, add=add, relu=relu)
    for add, relu in ((True, True), (True, False), (False, True))
    for case, output in (
        *((convolution(3, 20, 24, (6, 7), 3, 1, 1, kind=kind), 0) for kind in ("normal", "whole")),
        (convolution(2, 3, 16, 9, 7, 2, 3), 0),
        (convolution(2, 32, 16, 7, 1, 2), 0),
        (convolution(2, 32, 32, 6, 3, 1, 1, group=32), 0),
        # The gradient that another reader of x has sent is added to this one.
        (convolution(3, 32, 20, (6, 7), 3, 1, 1, kind="whole"), 1),
        (convolution(2, 32, 16, 7, 3, 2, 1), 1),
        (convolution(2, 32, 16, 8, 1, 2), 1),
        (convolution(2, 20, 16, 7, 3, 2, 1), 1),
        (normalization((3, 20, 4, 5)), 0),
        (normalization((3, 16, 4, 5), 1000.0), 0),
        (normalization((3, 16, 4, 5)), 3),
        (running(3, 20, 1.0), 0),
        (cellwise("Mul", np.multiply, PART, (20, 1, 1)), 0),
        (cellwise("Add", np.add, FULL, (32, 1, 1), size=all_of), 0),
        (cellwise("Sub", np.subtract, FULL, (32, 1, 1), size=all_of), 0),
        (pooling("AveragePool", 2, 20, 6, 3, 2, 1), 0),
    )
]


def residual(n: int, c: int, m: int, extent: tuple[int, int]) -> Case:
    """Two convolutions with pooling between them, a residual sum, and the gradients of all.

    Whole numbers, so that what is computed from rounded numbers need not be told from errors.
    """
    c3, pool = {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1)}, {"kernel": (3, 3), "stride": (2, 2)}
    slide: dict[str, Any] = {"stride": (1, 1), "pad": (1, 1), "dilation": (1, 1), "group": 1}
    small = tuple((e - 1) // 2 + 1 for e in extent)
    shapes = {"x": (n, c, *extent), "v": (m, c, 3, 3), "w": (m, m, 3, 3), "seed": (n, m)}
    feeds = dict(zip(shapes, draw("whole", *shapes.values()), strict=True))
    at: dict[str, Any] = {**pool, "pad": (1, 1), "positions": small}

    def build(op: Builder, given: Mapping[str, Value]) -> Sequence[Value]:
        x, v, w, seed = given.values()
        first = op.Relu(op.Conv(x, v, **c3))
        pooled, _ = op.MaxPool(
            first, outputs=2, kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1)
        )
        second = op.Relu(op.Add(op.Conv(pooled, w, **c3), pooled))
        total = op.ReduceSum(second, op.ints(2, 3), keepdims=0)
        x_bar, v_bar, w_bar = grad(op, tuple(op.ops), {total: seed}, [x, v, w])
        return total, x_bar, v_bar, w_bar

    def expect(feeds: Feeds) -> Sequence[Expected]:
        x, v, w, seed = feeds.values()
        first = np.maximum(ref.conv(x, v, **slide), 0)
        pooled, _ = ref.max_pool(first, None, **at)
        second = np.maximum(ref.conv(pooled, w, **slide) + pooled, 0)
        bar = seed[:, :, None, None] * (second > 0)
        back = bar + ref.conv_grad_input(bar, w, small, **slide)
        w_bar = ref.conv_grad_weight(pooled, bar, (3, 3), **slide)
        _, first_bar = ref.max_pool(first, back, **at)
        bar = first_bar * (first > 0)
        x_bar = ref.conv_grad_input(bar, v, extent, **slide)
        v_bar = ref.conv_grad_weight(x, bar, (3, 3), **slide)
        made = (second.sum((2, 3)), x_bar, v_bar, w_bar)
        return [Expected("residual", y, np.abs(y)) for y in made]

    return Case(f"residual {n}x{c}x{extent} {m}", feeds, build, expect, exact=True)


CHAINS = [
    residual(3, 20, 32, (9, 8)),
    residual(2, 3, 20, (8, 8)),
    residual(16, 16, 16, (5, 7)),
]


PER_PLANE = [
    followed(case, 0, relu=relu, per_plane=True)
    for relu in (False, True)
    for case in (
        convolution(3, 20, 32, (6, 7), 3, 1, 1, kind="whole"),
        normalization((3, 16, 4, 5)),
        cellwise("Mul", np.multiply, FULL, (32, 1, 1)),
    )
]
CASES = [
    *CONVOLUTIONS, *POOLINGS, *NORMALIZATIONS, *RUNNING, *RESPONSES, *CELLWISE, *BY_CHANNEL,
    *SHAPES, *FOLLOWED, *CHAINS,
]  # fmt: skip
BLOCKED = target_for(Device("cpu"))
each_case = pytest.mark.parametrize("case", CASES, ids=str)
each_target = pytest.mark.parametrize("target", [CUDA, BLOCKED], ids=str)


@each_target
@each_case
def test_is_as_near_to_float64_as_stated(case: Case, target: Target) -> None:
    # CUDA's formulations run on the CPU here; the plain CPU's are the same, as tested below.
    for way in ways(case, target):
        check(case, target, way)


@pytest.mark.parametrize("case", PER_PLANE, ids=str)
def test_a_number_per_plane_is_not_added_as_an_image(case: Case) -> None:
    for way in ways(case, BLOCKED):
        check(case, BLOCKED, way)


@each_case
def test_targets_run_all_that_is_written(case: Case) -> None:
    graph, _ = graph_of(case)
    for target in (CPU_PLAIN, CUDA, BLOCKED):
        written = formulate(graph, target).graph
        for node in written.ops:
            assert target.runs(node), (str(target), node.name)
            assert node.domain != GRADIENT
            assert node.domain != NCHWC or target.block
        read = set(consumers(written.ops)) | set(written.outputs)
        assert all(read.intersection(node.outputs) for node in written.ops)


REGISTERED = [f for known in FORMULATIONS.values() for f in known]
each_formulation = pytest.mark.parametrize(
    "formulation", REGISTERED, ids=[f"{f.operator} {f.name}" for f in REGISTERED]
)


@cache
def reached() -> Mapping[tuple[str, str], Case]:
    """By operator and formulation, the first case that takes it."""
    found: dict[tuple[str, str], Case] = {}
    for case in CASES:
        for target in (CUDA, BLOCKED):
            for way in ways(case, target):
                for taken in way.taken:
                    found.setdefault(taken, case)
    return found


def _runs(formulation: Formulation) -> bool:
    return formulation.layout == "plain" or BLOCKED.block > 0


@each_formulation
def test_every_formulation_has_a_case(formulation: Formulation) -> None:
    assert (formulation.operator, formulation.name) in reached() or not _runs(formulation)


@each_formulation
def test_a_formulation_spoilt_by_a_thousandth_is_found(formulation: Formulation) -> None:
    if not _runs(formulation):
        pytest.skip("nothing is blocked on this machine")
    taken = (formulation.operator, formulation.name)
    case = reached()[taken]
    graph, _ = graph_of(case)
    outputs = max(len(n.outputs) for n in graph.ops if n.op_type == formulation.operator)
    seen = 0
    for spoilt in range(outputs):

        def wrong(forms: Forms, node: Op, spoilt: int = spoilt) -> Sequence[Value | None]:
            nonlocal seen
            made = list(formulation.write(forms, node))
            if (right := made[spoilt]) is not None:
                made[spoilt] = forms.op.Mul(right, forms.op.scalar(1.001))
                seen += 1
            return made

        replaced = {formulation: replace(formulation, write=wrong)}
        for target in (CUDA, BLOCKED):
            for way in ways(case, target, replaced):
                before = seen
                if taken in way.taken:
                    try:
                        check(case, target, way)
                    except AssertionError:
                        continue
                    assert seen == before, f"{case}, {way}: output {spoilt} may be wrong"
    assert seen


def _tail(graph: Graph, case: Case) -> tuple[Op, tuple[Op, ...]]:
    """What makes y, and what follows it."""
    made = {value: node for node in graph.ops for value in node.outputs}
    node, tail = made[graph.outputs[0]], []
    if case.name.endswith(" relu"):
        tail, node = [node], made[node.inputs[0]]
    if " + r" in case.name:
        tail, node = [node, *tail], made[node.inputs[1]]
    return node, tuple(tail)


def test_what_follows_is_done_on_the_way() -> None:
    joining = set()
    for case in FOLLOWED:
        graph, sources = graph_of(case)
        way, _ = _plan(case, BLOCKED, tuple(sources.values()), 0, {})
        head, tail = _tail(graph, case)
        formulation = way.plan.chosen.get(head)
        if formulation is None or not formulation.joins:
            assert head not in way.plan.epilogues, case
            continue
        assert way.plan.epilogues[head].absorbed == tail, case
        joining.add(formulation)
    assert joining == {f for f in REGISTERED if f.joins} or not BLOCKED.block


def test_denormal_maxima_lose_nothing() -> None:
    # The blocked form cannot tell numbers below 6e-32 that differ by less than 3e-39: ȳ may go to
    # several cells of the window then, but all of it goes.
    case = pooling("MaxPool", 3, 20, 9, 3, 2, 1, kind="denormal")
    graph, _ = graph_of(case)
    (_, y_bar) = case.feeds.values()
    for target in (CUDA, BLOCKED):
        for way in ways(case, target):
            _, x_bar = run(formulate(graph, target, way.plan).graph, case.feeds)
            np.testing.assert_allclose(
                x_bar.sum((2, 3)), y_bar.sum((2, 3)), rtol=0, atol=1e-6 * np.abs(y_bar).sum()
            )


pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
narrow = st.sampled_from([1, 3, 5, 16, 20, 32])


@given(
    st.integers(1, 18), narrow, narrow, st.tuples(*[st.integers(1, 9)] * 2),
    st.sampled_from(["one", "halves", "each"]), pair, pair, pair,
    st.tuples(*[st.integers(0, 2)] * 2), st.booleans(), st.sampled_from(["normal", "whole"]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_convolution_of_any_geometry(
    n: int, c: int, m: int, extent: Any, grouped: str, kernel: Any, stride: Any, dilation: Any,
    pad: Any, bias: bool, kind: str,
) -> None:  # fmt: skip
    spans = zip(extent, kernel, dilation, pad, strict=True)
    assume(all(e + 2 * p > d * (k - 1) for e, k, d, p in spans))
    group = {"one": 1, "halves": 2, "each": c}[grouped]
    c, m = (c if grouped != "halves" else 2 * c), (c if grouped == "each" else group * m)
    case = convolution(n, c, m, extent, kernel, stride, pad, dilation, group, kind, bias)
    for way in ways(case, BLOCKED):
        check(case, BLOCKED, way)


@given(
    st.sampled_from(["MaxPool", "AveragePool"]), st.integers(1, 3), narrow,
    st.tuples(*[st.integers(1, 9)] * 2), pair, pair, st.tuples(*[st.integers(0, 2)] * 2),
    st.booleans(), st.booleans(), st.booleans(), st.sampled_from(["normal", "pairs", "whole"]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_pooling_of_any_geometry(
    op_type: str, n: int, c: int, extent: Any, kernel: Any, stride: Any, pad: Any, ceil: bool,
    counted: bool, relu: bool, kind: str,
) -> None:  # fmt: skip
    spans = list(zip(extent, kernel, pad, strict=True))
    assume(all(p < k <= e + 2 * p for e, k, p in spans))
    # As Caffe has it, and `lower` sees to: a window that starts in the padding at the end is none.
    lost = [(e + 2 * p - k) % s for (e, k, p), s in zip(spans, stride, strict=True)]
    starts = [
        e + p - (e + 2 * p - k) // s * s - s for (e, k, p), s in zip(spans, stride, strict=True)
    ]
    ceil = ceil and all(left and start > 0 for left, start in zip(lost, starts, strict=True))
    # Whether padding counts where windows hang over ONNX leaves open; `lower` has it count.
    counted = counted or ceil
    case = pooling(
        op_type, n, c, extent, kernel, stride, pad, ceil=ceil, counted=counted, kind=kind,
        relu=relu and op_type == "MaxPool",
    )  # fmt: skip
    for way in ways(case, BLOCKED):
        check(case, BLOCKED, way)


LARGE = [
    convolution(4, 256, 128, 14, 3, 1, 1),
    convolution(2, 512, 512, 7, 3, 1, 1),
    convolution(32, 16, 16, 32, 3, 1, 1),
    convolution(4, 64, 128, 56, 3, 2, 1),
    convolution(4, 3, 64, 224, 7, 2, 3),
    convolution(4, 3, 96, 227, 11, 4),
    convolution(4, 96, 256, 27, 5, 1, 2, group=2),
    convolution(16, 128, 128, 28, 3, 2, 1, group=128),
    convolution(16, 256, 64, 56, 1),
    pooling("MaxPool", 4, 64, 112, 3, 2, 1),
    pooling("AveragePool", 16, 64, 55, 3, 2, ceil=True, counted=True),
    normalization((64, 16, 32, 32)),
    normalization((64, 16, 32, 32), 1000.0),
    # One lane sums a plane of 12544 cells, one after the other.
    replace(normalization((4, 64, 112, 112), -1000.0), loss=2.0),
    response(8, 96, 27, 5, 1e-4, 0.75, 1.0),
]


@pytest.mark.slow
@each_target
@pytest.mark.parametrize("case", LARGE, ids=str)
def test_is_as_near_at_the_size_of_a_net(case: Case, target: Target) -> None:
    for way in ways(case, target):
        check(case, target, way)
