"""Every gradient rule, against differences of what someone else's code computes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from netspec.autodiff import RULES, grad
from netspec.codegen.builder import Builder
from netspec.codegen.emit import emit
from netspec.codegen.formulate import formulate
from netspec.codegen.target import CUDA
from netspec.ir.graph import Value
from netspec.ir.types import TensorType

Array = npt.NDArray[Any]

TOLERANCE = 2e-4
"""Of the norm; a rule wrong by 0.1 % is five times as far off."""
DIRECTIONS = 3


@dataclass(frozen=True)
class Case:
    """One application of an operator; a shape is a fed real tensor, an array a constant."""

    op_type: str
    inputs: Sequence[tuple[int, ...] | Array | None]
    attrs: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    seeded: int | None = None
    """Outputs that have a gradient, the first ones; unless given, all real ones."""
    positive: bool = False
    reference: str = "onnx"
    """Who computes the differences: onnx.reference in float64; onnxruntime in float64; or, for an
    operator linear in each input, onnxruntime in float32 with a step of 1."""

    def __str__(self) -> str:
        shapes = ",".join("x".join(map(str, s)) for s in self.inputs if isinstance(s, tuple))
        return "-".join([self.op_type, shapes, *(f"{k}{v}" for k, v in self.attrs.items())])


class Erf(OpRun):
    """In float64: onnx.reference's own rounds to float32."""

    op_domain = ""

    def _run(self, x: Array) -> tuple[Array]:
        return (np.vectorize(math.erf)(x),)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def number(value: float) -> Array:
    return np.array(value)


def window(kernel: Any, stride: Any = (1, 1), pad: Any = (0, 0), **more: Any) -> dict[str, Any]:
    return {"kernel_shape": kernel, "strides": stride, "pads": (*pad, *pad), **more}


X = (2, 3, 4, 5)
DEALT = np.argsort(np.random.default_rng(0).random(X), axis=2)[:, :, 1:3]
"""Places along the third axis, none twice."""
CASES = [
    Case("Abs", [X]),
    Case("Add", [X, X]),
    Case("Add", [X, (3, 1, 1)]),
    Case("Add", [(), X]),
    Case("Add", [(4, 1), (2, 1, 5)]),
    Case("AveragePool", [(2, 3, 6, 6)], window((2, 2), (2, 2)), reference="linear"),
    Case("AveragePool", [(2, 3, 5, 7)], window((5, 7)), reference="linear"),
    Case("AveragePool", [(2, 3, 7, 6)], window((3, 2), (2, 3), (1, 0)), reference="linear"),
    Case(
        "AveragePool",
        [(2, 1, 6, 10)],
        window((5, 1), (1, 1), (2, 0), count_include_pad=1),
        reference="linear",
    ),
    Case(
        "AveragePool",
        [(2, 3, 8, 9)],
        window((3, 3), (2, 2), (1, 1), count_include_pad=1, ceil_mode=1),
        reference="linear",
    ),
    Case("AveragePool", [(2, 3, 8, 9)], window((3, 3), (2, 2), ceil_mode=1), reference="linear"),
    Case(
        "AveragePool",
        [(2, 3, 8, 9)],
        {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 0), "ceil_mode": 1}
        | {"count_include_pad": 1},
        reference="linear",
    ),
    Case("AveragePool", [(2, 3, 9)], {"kernel_shape": (3,), "strides": (2,)}, reference="linear"),
    Case(
        "BatchNormalization",
        [(4, 3, 3, 2), (3,), (3,), np.zeros(3), np.zeros(3)],
        {"training_mode": 1, "momentum": 0.0, "epsilon": 1e-3},
        3,
        seeded=1,
    ),
    Case(
        "BatchNormalization",
        [(8, 5), (5,), (5,), np.zeros(5), np.zeros(5)],
        {"training_mode": 1, "momentum": 0.0, "epsilon": 1e-3},
        3,
        seeded=1,
    ),
    Case("Cast", [X], {"to": "float32"}),
    Case("Clip", [X, number(-0.70001), number(1.20001)]),
    Case("Clip", [X, None, number(0.40001)]),
    Case("Concat", [(2, 3, 4), (2, 1, 4), (2, 2, 4)], {"axis": 1}),
    Case("Concat", [(2, 3), np.arange(4.0).reshape(2, 2)], {"axis": -1}),
    Case("Conv", [(2, 3, 7, 6), (4, 3, 3, 3), (4,)], window((3, 3), pad=(1, 1))),
    Case("Conv", [(3, 6, 7, 8), (4, 6, 3, 2)], window((3, 2), (2, 3), (1, 0))),
    Case("Conv", [(2, 4, 9, 8), (6, 2, 3, 3), (6,)], window((3, 3), dilations=(2, 1), group=2)),
    Case("Conv", [(2, 4, 6, 6), (4, 1, 3, 3)], window((3, 3), pad=(1, 1), group=4)),
    Case("Conv", [(2, 4, 6, 6), (8, 1, 3, 3)], window((3, 3), (2, 2), (1, 1), group=4)),
    Case("Conv", [(2, 16, 4, 4), (6, 16, 1, 1), (6,)], window((1, 1))),
    Case("Conv", [(4, 12, 3, 3), (12, 12, 2, 2)], window((2, 2))),
    Case("Conv", [(2, 1, 15, 14), (3, 1, 7, 7)], window((7, 7), (2, 2), (3, 3))),
    Case("Conv", [(2, 3, 9), (4, 3, 3)], {"strides": (2,), "kernel_shape": (3,)}),
    Case("ConvTranspose", [(2, 3, 4, 5), (3, 4, 3, 3), (4,)], window((3, 3), (2, 2), (1, 1))),
    Case(
        "ConvTranspose",
        [(2, 4, 4, 3), (4, 2, 4, 4)],
        window((4, 4), (2, 2), (1, 1), group=2, output_padding=(1, 0)),
        reference="linear",
    ),
    Case("CumSum", [X, np.array(1)]),
    Case("CumSum", [X, np.array(-1)], {"exclusive": 1, "reverse": 1}),
    Case("Div", [X, X], positive=True),
    Case("Div", [X, (3, 1, 1)], positive=True),
    Case("Elu", [X], {"alpha": 1.0}),
    Case("Elu", [X], {"alpha": 0.3}),
    Case("Erf", [X]),
    Case("Exp", [X]),
    Case("Expand", [(3, 1, 5), ints(2, 3, 4, 5)]),
    Case("Flatten", [X], {"axis": 2}),
    Case("FusedMatMul", [(2, 3, 4), (2, 4, 5)], reference="linear"),
    Case("FusedMatMul", [(2, 4, 3), (2, 4, 5)], {"transA": 1, "alpha": 0.5}, reference="linear"),
    Case("FusedMatMul", [(2, 4, 3), (2, 5, 4)], {"transA": 1, "transB": 1}, reference="linear"),
    Case("Gather", [(5, 4), ints(3, 0, 3, -1)], {"axis": 0}),
    Case("Gather", [(3, 6, 2), ints(3, 0, 3, 5).reshape(2, 2)], {"axis": 1}),
    Case("Gather", [(3, 6), np.array(2)], {"axis": -1}),
    Case("GatherElements", [(3, 4), ints(0, 3, 3, 1, 1, 2).reshape(3, 2)], {"axis": 1}),
    Case("Gemm", [(3, 4), (4, 5), (5,)]),
    Case("Gemm", [(3, 4), (5, 4), (3, 1)], {"transB": 1, "beta": 0.5}),
    Case("Gemm", [(4, 3), (4, 5)], {"transA": 1, "alpha": 2.0}),
    Case("Gemm", [(4, 3), (5, 4), ()], {"transA": 1, "transB": 1}),
    Case("Identity", [X]),
    Case("LRN", [(7, 7, 3, 2)], {"size": 3, "alpha": 0.7, "beta": 0.75, "bias": 1.5}),
    Case("LRN", [(4, 4, 3, 2)], {"size": 5, "alpha": 0.7, "beta": 0.6}),
    Case("LeakyRelu", [X], {"alpha": 0.1}),
    Case("LeakyRelu", [X], {"alpha": 1.5}),
    Case("LeakyRelu", [X], {"alpha": -0.5}),
    Case("Log", [X], positive=True),
    Case("Cos", [X]),
    Case("Sin", [X]),
    Case("LogSoftmax", [(4, 7)], {"axis": 1}),
    Case("LogSoftmax", [X], {"axis": 1}),
    Case("MatMul", [(3, 4), (4, 5)]),
    Case("MatMul", [(2, 2, 3, 4), (2, 2, 4, 2)]),
    Case("Max", [X, X, X]),
    Case("Max", [X, (1,)]),
    Case("MaxPool", [(2, 3, 6, 6)], window((2, 2), (2, 2)), 2, reference="float64"),
    Case("MaxPool", [(2, 3, 7, 8)], window((3, 3), (2, 2), (1, 1)), 2, reference="float64"),
    Case("MaxPool", [(2, 3, 8, 7)], window((3, 2), (2, 2), ceil_mode=1), 2, reference="float64"),
    Case("Min", [X, X, X]),
    Case("Min", [X]),
    Case("Mul", [X, X]),
    Case("Mul", [X, (3, 1, 1)]),
    Case("Mul", [number(2.5), X]),
    Case("Neg", [X]),
    Case("PRelu", [X, (3, 1, 1)]),
    Case("PRelu", [X, (1,)]),
    Case("Pad", [X, ints(0, 0, 1, 2, 0, 0, 0, 1)]),
    Case("Pad", [X, ints(1, -1, 0, 2), None, ints(2, -1)], reference="linear"),
    Case("Pow", [X, number(2)]),
    Case("Pow", [X, number(3)]),
    Case("Pow", [X, number(-0.75)], positive=True),
    Case("Reciprocal", [X], positive=True),
    Case("ReduceMax", [X, ints(1)], {"keepdims": 0}),
    Case("ReduceMax", [X], {"keepdims": 1}),
    Case("ReduceMean", [X, ints(2, 3)], {"keepdims": 1}),
    Case("ReduceMean", [X], {"keepdims": 0}),
    Case("ReduceSum", [X, ints(0, -1)], {"keepdims": 0}),
    Case("ReduceSum", [X]),
    Case("Relu", [X]),
    Case("Reshape", [X, ints(6, -1)]),
    Case("Sigmoid", [X]),
    Case(
        "Resize",
        [X, None, np.array([1, 1, 2, 3], np.float32)],
        {"mode": "nearest", "nearest_mode": "floor"}
        | {"coordinate_transformation_mode": "asymmetric"},
        reference="linear",
    ),
    Case(
        "Resize",
        [X, None, np.array([1, 1, 3, 2], np.float32)],
        {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
        reference="linear",
    ),
    *(
        Case(
            "Resize",
            [X, None, None, ints(*extent)],
            {"mode": "linear", "coordinate_transformation_mode": "align_corners", "axes": (2, 3)},
            reference="linear",
        )
        for extent in ((7, 9), (2, 13), (1, 3))
    ),
    *(
        Case("ScatterElements", [X, DEALT, (2, 3, 2, 5)], attrs)
        for attrs in ({"axis": 2}, {"axis": 2, "reduction": "none"})
    ),
    Case("Slice", [X, ints(1, -3), ints(100, -1), ints(2, 3)]),
    Case("Slice", [(9, 8), ints(1, 0), ints(9, 6), ints(0, 1), ints(3, 2)]),
    Case("Softmax", [X], {"axis": 1}),
    Case("Softplus", [X]),
    Case("Split", [(2, 7), ints(3, 4)], {"axis": 1}, 2),
    Case("Sqrt", [X], positive=True),
    Case("Squeeze", [(2, 1, 3, 1), ints(1)]),
    Case("Sub", [X, X]),
    Case("Sub", [X, (4, 1)]),
    Case("Sum", [X, (3, 1, 1), X]),
    Case("Tanh", [X]),
    Case("Tile", [X, ints(1, 3, 1, 1)]),
    Case("Tile", [X, ints(2, 1, 1, 3)]),
    Case("TopK", [X, ints(3)], {"axis": 1}, 2, seeded=1),
    Case("TopK", [X, ints(2)], {"axis": -1, "largest": 0}, 2, seeded=1),
    Case("Transpose", [X], {"perm": (2, 0, 3, 1)}),
    Case("Transpose", [X]),
    Case("Unsqueeze", [X, ints(0, 3)]),
    Case("Where", [np.arange(60).reshape(3, 4, 5) % 3 == 0, X, (5,)]),
]
each_case = pytest.mark.parametrize("case", CASES, ids=str)


def build(case: Case, dtype: str = "float32") -> tuple[Builder, list[Value], list[Value]]:
    """The builder, the fed inputs and the outputs that carry a gradient."""
    op = Builder()
    fed: list[Value] = []

    def given(i: int, what: tuple[int, ...] | Array | None) -> Value | None:
        if what is None:
            return None
        if isinstance(what, tuple):
            fed.append(op.input(f"x{i}", TensorType(what, dtype)))
            return fed[-1]
        return op.constant(what.astype(dtype) if what.dtype == np.float64 else what)

    inputs = [given(i, what) for i, what in enumerate(case.inputs)]
    attrs = {"to": dtype} if case.op_type == "Cast" else case.attrs
    made = getattr(op, case.op_type)(*inputs, outputs=case.outputs, **attrs)
    outputs = [made] if case.outputs == 1 else list(made)
    return op, fed, [y for y in outputs[: case.seeded] if y.type.dtype == dtype]


def draw(case: Case, rng: np.random.Generator) -> dict[str, Array]:
    """Inputs that are all distinct and none of them zero: no ties, no kinks."""
    _, fed, _ = build(case)
    count = sum(x.type.numel for x in fed)
    values = (rng.permutation(count) + 0.3) * (4 / count) - 2
    parts = np.split(values, np.cumsum([x.type.numel for x in fed])[:-1])
    return {
        x.name: part.reshape(x.type.shape) + (2.5 if case.positive else 0)
        for x, part in zip(fed, parts, strict=True)
    }


def pull(case: Case, feeds: dict[str, Array], seeds: list[Array], run: Any) -> list[Array]:
    """The cotangents of the fed inputs, in float32 on onnxruntime."""
    op, fed, outputs = build(case)
    fed_seeds = {y: op.input(f"seed{i}", y.type) for i, y in enumerate(outputs)}
    bars = grad(op, tuple(op.ops), fed_seeds, fed)
    feeds = feeds | {s.name: a for s, a in zip(fed_seeds.values(), seeds, strict=True)}
    got: list[Array] = run(op, bars, {k: v.astype("float32") for k, v in feeds.items()})
    return got


def forward(case: Case, run: Any) -> Any:
    """The operator as someone else computes it: feeds → outputs in float64."""
    if case.reference == "onnx":
        op, _, outputs = build(case, "float64")
        evaluator = ReferenceEvaluator(emit(op.graph(outputs, name="forward")), new_ops=[Erf])
        return lambda feeds: evaluator.run(None, feeds)
    dtype = "float64" if case.reference == "float64" else "float32"
    op, _, outputs = build(case, dtype)
    return lambda feeds: [
        y.astype("float64")
        for y in run(op, outputs, {k: v.astype(dtype) for k, v in feeds.items()})
    ]


def check(case: Case, run: Any, seed: int = 0) -> None:
    """⟨x̄, dx⟩ = ⟨ȳ, dy⟩ for each input along random directions, relative to their norm."""
    rng = np.random.default_rng(seed)
    feeds, compute = draw(case, rng), forward(case, run)
    seeds = [rng.standard_normal(y.shape) for y in compute(feeds)]
    bars = pull(case, feeds, seeds, run)
    step = 1.0 if case.reference == "linear" else 1e-5
    for (name, x), x_bar in zip(feeds.items(), bars, strict=True):
        assert x_bar.shape == x.shape
        pulled, pushed = [], []
        for _ in range(DIRECTIONS):
            dx = rng.standard_normal(x.shape)
            ahead = compute(feeds | {name: x + step * dx})
            behind = compute(feeds | {name: x - step * dx})
            pulled.append(np.vdot(x_bar.astype("float64"), dx))
            pushed.append(
                sum(
                    np.vdot(s, (a - b) / (2 * step))
                    for s, a, b in zip(seeds, ahead, behind, strict=True)
                )
            )
        error = np.linalg.norm(np.subtract(pulled, pushed))
        assert error <= TOLERANCE * np.linalg.norm(pushed), (name, pulled, pushed)


def test_every_rule_has_a_case() -> None:
    assert {case.op_type for case in CASES} == set(RULES)


@each_case
def test_matches_differences(case: Case, run: Any) -> None:
    check(case, run)


@each_case
def test_the_check_sees_a_rule_spoilt_by_a_thousandth(
    case: Case, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = RULES[case.op_type]
    for spoilt, what in enumerate(case.inputs):
        if not isinstance(what, tuple):
            continue

        def wrong(op: Any, *args: Any, spoilt: int = spoilt) -> list[Value | None]:
            bars = list(rule(op, *args))
            bars[spoilt] = op.Mul(bars[spoilt], op.scalar(1.001))
            return bars

        monkeypatch.setitem(RULES, case.op_type, wrong)
        with pytest.raises(AssertionError):
            check(case, run)


@each_case
def test_every_operator_is_needed_and_runs_on_cuda(case: Case) -> None:
    _, every, _ = build(case)
    for count in range(1, len(every) + 1):
        for wanted in combinations(range(len(every)), count):
            op, fed, outputs = build(case)
            seeds = {y: op.input(f"seed{i}", y.type) for i, y in enumerate(outputs)}
            first = len(op.ops)
            bars = grad(op, tuple(op.ops), seeds, [fed[i] for i in wanted])
            live = set(bars)
            for node in reversed(op.ops[first:]):
                assert not live.isdisjoint(node.outputs), f"{node.name} leads nowhere"
                live.update(node.inputs)
            assert len(set(bars)) == len(bars)
            graph = op.graph([bar for bar in bars if bar is not None], name="gradient")
            for node in formulate(graph, CUDA).graph.ops:  # which refuses what CUDA has not
                pads = list(node.attrs.get("pads", ()))
                symmetric = pads == 2 * pads[: len(pads) // 2]
                assert symmetric or node.op_type not in ("Conv", "ConvTranspose"), node.name


pair = st.tuples(st.integers(1, 3), st.integers(1, 3))


@given(
    st.integers(1, 3), pair, st.tuples(*[st.integers(1, 9)] * 2), st.integers(1, 3), pair, pair,
    pair, st.tuples(*[st.integers(0, 2)] * 2), st.booleans(), st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_convolution_of_any_geometry(
    run: Any, n: int, width: Any, extent: Any, group: int, kernel: Any, stride: Any,
    dilation: Any, pads: Any, bias: bool, seed: int,
) -> None:  # fmt: skip
    spans = zip(extent, kernel, dilation, pads, strict=True)
    assume(all(e + 2 * p > d * (k - 1) for e, k, d, p in spans))
    c, m = (group * channels for channels in width)
    inputs: list[tuple[int, ...]] = [(n, c, *extent), (m, c // group, *kernel)]
    attrs = window(kernel, stride, pads, dilations=dilation, group=group)
    check(Case("Conv", [*inputs, (m,)] if bias else inputs, attrs), run, seed)


@given(
    st.sampled_from(["MaxPool", "AveragePool"]), st.tuples(*[st.integers(1, 9)] * 2), pair, pair,
    st.tuples(*[st.integers(0, 2)] * 2), st.integers(0, 1), st.integers(0, 1), st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_pooling_of_any_geometry(
    run: Any, op_type: str, extent: Any, kernel: Any, stride: Any, pads: Any, ceil: int,
    count: int, seed: int,
) -> None:  # fmt: skip
    spans = list(zip(extent, kernel, pads, strict=True))
    assume(all(p < k <= e + 2 * p for e, k, p in spans))
    # As Caffe has it, and `lower` sees to: a window that starts in the padding at the end is none.
    lost = [(e + 2 * p - k) % s for (e, k, p), s in zip(spans, stride, strict=True)]
    starts = [
        e + p - (e + 2 * p - k) // s * s - s for (e, k, p), s in zip(spans, stride, strict=True)
    ]
    assume(not ceil or all(n and start > 0 for n, start in zip(lost, starts, strict=True)))
    attrs = window(kernel, stride, pads, ceil_mode=ceil)
    if op_type == "MaxPool":
        case = Case(op_type, [(2, 2, *extent)], attrs, 2, reference="float64")
    else:
        attrs["count_include_pad"] = count
        case = Case(op_type, [(2, 2, *extent)], attrs, reference="linear")
    check(case, run, seed)


def test_max_pool_gives_a_tie_to_the_first_cell(run: Any) -> None:
    x = np.array([[1, 3, 3, 0], [3, 2, 3, 3]], "float32").reshape(1, 1, 2, 4)
    case = Case("MaxPool", [x.shape], window((2, 2), (2, 2)), 2)
    (x_bar,) = pull(case, {"x0": x}, [np.array([[[[5.0, 7.0]]]])], run)
    np.testing.assert_array_equal(x_bar[0, 0], [[0, 5, 7, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize("value", [-1.0, 0.0, 2.0])
def test_max_pool_of_equal_cells_gives_each_window_to_its_first(value: float, run: Any) -> None:
    x = np.full((2, 2, 5, 5), value, "float32")
    case = Case("MaxPool", [x.shape], window((3, 3), (2, 2), (1, 1)), 2)
    (x_bar,) = pull(case, {"x0": x}, [np.ones((2, 2, 3, 3))], run)
    expected = np.zeros((5, 5))
    for row in (0, 1, 3):
        for column in (0, 1, 3):
            expected[row, column] = 1
    np.testing.assert_array_equal(x_bar, np.broadcast_to(expected, x.shape))


@pytest.mark.parametrize("op_type", ["Max", "Min"])
def test_extrema_give_a_tie_to_the_first(op_type: str, run: Any) -> None:
    case = Case(op_type, [(3,), (3,), (3,)])
    feeds = {"x0": np.array([1, 1, 2.0]), "x1": np.array([1, 1, 1.0]), "x2": np.array([1, 2, 1.0])}
    bars = pull(case, feeds, [np.array([3, 4, 5.0])], run)
    won = [[3, 0, 5], [0, 0, 0], [0, 4, 0]] if op_type == "Max" else [[3, 4, 0], [0, 0, 5], [0] * 3]
    np.testing.assert_array_equal(bars, won)


def test_equal_maxima_share_alike(run: Any) -> None:
    case = Case("ReduceMax", [(4,)], {"keepdims": 0})
    (x_bar,) = pull(case, {"x0": np.array([2, 1, 2, 0.0])}, [np.array(3.0)], run)
    np.testing.assert_array_equal(x_bar, [1.5, 0, 1.5, 0])


def test_relu_is_exact_from_the_smallest_number_on_and_stops_at_zero(run: Any) -> None:
    tiny = np.finfo("float32").tiny
    x = np.array([-1, -tiny, -0.0, 0, tiny, 1, 3e38])
    (x_bar,) = pull(Case("Relu", [(7,)]), {"x0": x}, [np.full(7, 3.0)], run)
    np.testing.assert_array_equal(x_bar, [0, 0, 0, 0, 3, 3, 3])
