"""Activations and normalisations by the whole road from text, against PyTorch in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest

from netspec.autodiff import grad
from netspec.codegen.emit import emit
from netspec.codegen.formulate import formulate
from netspec.codegen.lower import lower
from netspec.codegen.target import CPU_PLAIN, CUDA, Target
from netspec.compiler import elaborate, read
from netspec.ir.net import Net
from netspec.training.execution.targets import find_target

torch = pytest.importorskip("torch")
F = torch.nn.functional
pytestmark = pytest.mark.parity

Array: TypeAlias = npt.NDArray[Any]

TOLERANCE = 1e-5
"""Of the norm."""
X = (4, 6, 3, 5)


@dataclass(frozen=True)
class Case:
    """A layer as a spec writes it, and as PyTorch computes it from bottoms and weights."""

    text: str
    theirs: Callable[..., Any]
    shapes: Sequence[tuple[int, ...]] = (X,)
    positive: bool = False
    draws: float | None = None
    """What a random draw of the layer gives."""


def channels(vector: Any) -> Any:
    return vector[:, None, None]


def mvn(axes: tuple[int, ...], eps: float = 1e-9) -> Callable[[Any], Any]:
    def normalised(x: Any) -> Any:
        return (x - x.mean(axes, keepdim=True)) / (x.std(axes, keepdim=True, correction=0) + eps)

    return normalised


def tempered(x: Any, axes: Any = 1, eps: float = 1e-10) -> Any:
    return x / (x.square().sum(axes, keepdim=True) + eps).sqrt()


ACTIVATIONS = [
    Case("relu { negative_slope: 0.1 }", lambda x: F.leaky_relu(x, 0.1)),
    Case("relu6", F.relu6),
    Case("hard_sigmoid", F.hardsigmoid),
    Case("hard_swish", F.hardswish),
    Case("softplus", F.softplus),
    Case("swish", F.silu),
    Case("swish { beta: -1.7 }", lambda x: x * (-1.7 * x).sigmoid()),
    Case("gelu", F.gelu),
    Case("gelu { approximate: TANH }", lambda x: F.gelu(x, approximate="tanh")),
    Case("abs", torch.abs),
    Case("clip { min: -1  max: 2.5 }", lambda x: x.clamp(-1, 2.5)),
    Case("clip { min: 2  max: 2 }", lambda x: x.clamp(2, 2)),
]
OTHERS = [
    Case("power", lambda x: x),
    Case("power { power: 2 }", lambda x: x**2),
    Case("power { power: 3  scale: 0.5  shift: 0.3 }", lambda x: (0.5 * x + 0.3) ** 3),
    Case("power { power: -0.5  scale: 2  shift: 1 }", lambda x: (2 * x + 1) ** -0.5, positive=True),
    Case("power { scale: -0.5 }", lambda x: -0.5 * x),
    Case("exp", torch.exp),
    Case("exp { base: 2  scale: 0.5  shift: -1 }", lambda x: 2 ** (0.5 * x - 1)),
    Case("exp { base: 0.5 }", lambda x: 0.5**x),
    Case("log", torch.log, positive=True),
    Case("log { base: 10  scale: 3  shift: 1 }", lambda x: (3 * x + 1).log10(), positive=True),
    Case("bias", lambda x, b: x + channels(b)),
    Case("bias { axis: 2  num_axes: -1 }", lambda x, b: x + b),
    Case("bias { num_axes: 0 }", lambda x, b: x + b),
    Case('bias { bottom: "x0"  bottom: "x1"  axis: 0 }', lambda x, b: x + b[..., None, None],
         (X, X[:2])),
    Case('scale { bottom: "x0"  bottom: "x1"  axis: 0 }', lambda x, a: x * a[..., None, None],
         (X, X[:2])),
    Case("scale { num_axes: 2  bias_term: true }", lambda x, a, b: x * a[..., None] + b[..., None]),
    Case("mvn", mvn((2, 3))),
    Case("mvn { across_channels: true  eps: 0.5 }", mvn((1, 2, 3), 0.5)),
    Case("mvn { normalize_variance: false }", lambda x: x - x.mean((2, 3), keepdim=True)),
    Case("group_norm { groups: 3 }", lambda x, a, b: F.group_norm(x, 3, a, b)),
    Case("group_norm { groups: 1  eps: 0.1 }", lambda x, a, b: F.group_norm(x, 1, a, b, 0.1)),
    Case("group_norm { groups: 6  affine: false }", F.instance_norm),
    Case("group_norm { groups: 2 }", lambda x, a, b: F.group_norm(x, 2, a, b), ((5, 8),)),
    Case("l2_normalize", tempered),
    Case("l2_normalize { eps: 0.7 }", lambda x: tempered(x, eps=0.7), ((5, 8),)),
    Case("l2_normalize { scale: true }", lambda x, a: tempered(x) * channels(a)),
    Case("l2_normalize { across_spatial: true  scale: true  channel_shared: true }",
         lambda x, a: tempered(x, (1, 2, 3)) * a),
    Case("maxout", lambda x: x.unflatten(1, (3, 2)).amax(2)),
    Case("maxout { pieces: 4 }", lambda x: x.unflatten(1, (2, 4)).amax(2), ((5, 8),)),
    Case("shuffle_channel { group: 3 }", lambda x: F.channel_shuffle(x, 3)),
    Case("drop_path { survival: 0.7 }", lambda x: x, draws=0.69),
    Case("drop_path { survival: 0.7 }", lambda x: 0 * x, draws=0.7),
    Case("drop_path { survival: 1 }", lambda x: x),
]  # fmt: skip
CASES = ACTIVATIONS + OTHERS

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.text)
each_activation = pytest.mark.parametrize("case", ACTIVATIONS, ids=lambda case: case.text)
each_target = pytest.mark.parametrize(
    "target", [CPU_PLAIN, CUDA, find_target("cpu").target], ids=str
)


def build(text: str, shapes: Sequence[tuple[int, ...]], folder: Path) -> Net:
    """The TRAIN net of a text that reads `x0`, and `x1` if there are two shapes."""
    spec = folder / "layer.net"
    inputs = [
        f'input "x{i}" {{ shape: {"x".join(map(str, shape[1:]))} }}\n'
        for i, shape in enumerate(shapes)
    ]
    spec.write_text("".join(reversed(inputs)) + text)
    return elaborate(read(str(spec)), batch=shapes[0][0]).train.net


def pull(
    net: Net, target: Target, arrays: Sequence[Array], seed: Array, draws: float | None = None
) -> tuple[Array, list[Array]]:
    """The last top, and the cotangents of all bottoms and weights, by onnxruntime's CPU."""
    lowered = lower(net)
    op, y = lowered.op, lowered.blobs[net.nodes[-1].tops[0]]
    fed = [lowered.inputs[f"x{i}"] for i in range(len(net.inputs))]
    fed += lowered.parameters.values()
    y_bar = op.input("seed", y.type)
    bars = grad(op, tuple(op.ops), {y: y_bar}, fed)
    missing = [i for i, bar in enumerate(bars) if bar is None]
    graph = op.graph([y, *(bar for bar in bars if bar is not None)], name="layer")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        emit(formulate(graph, target).graph).SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
    )
    feeds = {v.name: a for v, a in zip(fed, arrays, strict=True)} | {"seed": seed}
    feeds |= {v.name: np.full(v.type.shape, draws, "f") for v in lowered.randoms.values()}
    wanted = {info.name for info in session.get_inputs()}
    made, *found = session.run(None, {k: v for k, v in feeds.items() if k in wanted})
    for i in missing:
        found.insert(i, np.zeros_like(arrays[i]))
    return made, found


def expected(theirs: Callable[..., Any], arrays: Sequence[Array], seed: Array) -> list[Array]:
    """The result and the cotangents, by PyTorch in float64."""
    tensors = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in arrays]
    y = theirs(*tensors)
    bars = torch.autograd.grad(y, tensors, torch.tensor(seed, dtype=torch.float64))
    return [y.detach().numpy(), *(bar.numpy() for bar in bars)]


def compare(case: Case, net: Net, target: Target, theirs: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    shapes = [*case.shapes, *(p.shape for p in net.parameters)]
    arrays = [np.asarray(2 * rng.standard_normal(shape), "f") for shape in shapes]
    arrays = [np.abs(a) + np.float32(0.5) if case.positive else a for a in arrays]
    (top,) = net.nodes[-1].top_types
    seed = rng.standard_normal(top.shape).astype("f")
    y, bars = pull(net, target, arrays, seed, case.draws)
    for got, want in zip([y, *bars], expected(theirs, arrays, seed), strict=True):
        assert got.shape == want.shape
        assert np.linalg.norm(got - want) <= TOLERANCE * np.linalg.norm(want)


@each_target
@each_case
def test_values_and_gradients(case: Case, target: Target, tmp_path: Path) -> None:
    compare(case, build(case.text, case.shapes, tmp_path), target, case.theirs)


@each_activation
@pytest.mark.parametrize("filters", [12, 32])
def test_behind_a_convolution(case: Case, filters: int, tmp_path: Path) -> None:
    """In blocks of channels, the last of them not full or all full."""
    conv = f"conv {{ num_output: {filters}  kernel_size: 3 }}\n"

    def theirs(x: Any, w: Any, b: Any) -> Any:
        return case.theirs(F.conv2d(x, w, b))

    compare(case, build(conv + case.text, [X], tmp_path), find_target("cpu").target, theirs)


@each_activation
def test_corners_and_far_ends(case: Case, tmp_path: Path) -> None:
    """Where lines meet the slope is PyTorch's, and nothing overflows."""
    x = np.array([[*range(-7, 8), 2.5, -1e4, -90, -20, 20, 90, 1e4]], "f")
    net = build(case.text, [x.shape], tmp_path)
    seed = np.full(x.shape, 3, "f")
    y, (x_bar,) = pull(net, CPU_PLAIN, [x], seed)
    for got, want in zip((y, x_bar), expected(case.theirs, [x], seed), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize("text", ["mvn", "group_norm { groups: 2 }", "l2_normalize", "maxout"])
def test_cells_that_are_all_equal(text: str, tmp_path: Path) -> None:
    """A silent image has no direction: its gradient is large at most, and finite."""
    net = build(text, [X], tmp_path)
    arrays = [np.zeros(shape, "f") for shape in (X, *(p.shape for p in net.parameters))]
    y, bars = pull(net, CPU_PLAIN, arrays, np.ones(net.nodes[-1].top_types[0].shape, "f"))
    assert all(np.isfinite(a).all() for a in (y, *bars))
