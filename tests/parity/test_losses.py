"""Losses and their gradients against torch's, in double precision, for each target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from netspec.autodiff import grad
from netspec.codegen.builder import Builder
from netspec.codegen.emit import emit
from netspec.codegen.formulate import formulate
from netspec.codegen.target import CPU_PLAIN, CUDA, Target
from netspec.ir.layer import Layer
from netspec.ir.types import TensorType
from netspec.layers import LAYERS

torch = pytest.importorskip("torch")
F = torch.nn.functional
pytestmark = pytest.mark.parity

TOLERANCE = 1e-6
"""Of the loss, or of the largest value of a gradient; what is zero there is zero here."""

N, C = 6, 5
IGNORED = 3
WEIGHT = (0.5, 2.0, 0.0, 1.0, 0.25)
H = (np.random.default_rng(3).uniform(-0.5, 2, (C, C))).round(3)
FLAT, DENSE, LAST = (N, C), (N, C, 3, 2), (N, 3, 2, C)


@dataclass(frozen=True)
class Case:
    """A loss here and in torch: numbers of `shapes` first, then labels of `labels`."""

    name: str
    layer: Layer
    theirs: Callable[..., Any]
    shapes: Sequence[tuple[int, ...]]
    labels: tuple[int, ...] | None = None
    behind: Sequence[tuple[int, ...]] = field(default=())
    """Numbers that are bottoms after the labels."""
    classes: int = C
    draw: str = "normal"

    def __str__(self) -> str:
        return self.name


def case(keyword: str, fields: dict[str, Any], theirs: Any, *shapes: Any, **more: Any) -> Case:
    said = " ".join(f"{k}={v}" for k, v in fields.items() if k not in ("infogain",))
    shown = "x".join(map(str, shapes[0]))
    return Case(f"{keyword} {said} {shown}", LAYERS[keyword](**fields), theirs, shapes, **more)


def mean_over(by: str, counted: Any) -> Any:
    """How torch's unreduced losses become Caffe's, by what is not ignored."""

    def reduced(each: Any) -> Any:
        n = {"VALID": counted.sum(), "FULL": counted.numel(), "BATCH_SIZE": N, "NONE": 1}[by]
        return (each * counted).sum() / n

    return reduced


def cross_entropy(by: str | None = None, **fields: Any) -> Any:
    """torch's own mean, or its unreduced losses divided as Caffe does."""
    if by is None:
        return lambda x, y: F.cross_entropy(x, y, **fields)

    def theirs(x: Any, y: Any) -> Any:
        counted = y != fields.get("ignore_index", -100)
        return mean_over(by, counted)(F.cross_entropy(x, y, reduction="none", **fields))

    return theirs


def hinge(power: int, margin: float = 1.0) -> Any:
    """Caffe's `HingeLossLayer::Forward_cpu`."""

    def theirs(x: Any, y: Any) -> Any:
        delta = 2 * F.one_hot(y, C).movedim(-1, 1) - 1
        return torch.relu(margin - delta * x).pow(power).sum() / N

    return theirs


def multiclass(power: int, margin: float = 1.0) -> Any:
    def theirs(x: Any, y: Any) -> Any:
        rows = x.movedim(1, -1).reshape(-1, C)
        total = F.multi_margin_loss(rows, y.flatten(), p=power, margin=margin, reduction="sum")
        return total * C / N

    return theirs


def sigmoid(by: str = "BATCH_SIZE", ignored: int | None = None) -> Any:
    def theirs(x: Any, t: Any) -> Any:
        counted = t != ignored if ignored is not None else torch.ones_like(t)
        each = F.binary_cross_entropy_with_logits(x, t, reduction="none")
        return mean_over(by, counted)(each)

    return theirs


def smooth_l1(sigma: float) -> Any:
    def theirs(a: Any, b: Any, u: Any = None, v: Any = None) -> Any:
        b = b.reshape(a.shape)
        u, v = (torch.ones_like(a) if w is None else w for w in (u, v))
        each = F.smooth_l1_loss(u * a, u * b, beta=1 / sigma**2, reduction="none")
        return (v * each).sum() / N

    return theirs


def contrastive(margin: float = 1.0, *, legacy: bool = False) -> Any:
    """Caffe's `ContrastiveLossLayer::Forward_cpu`."""

    def theirs(a: Any, b: Any, y: Any) -> Any:
        d = F.pairwise_distance(a.flatten(1), b.flatten(1), eps=0)
        square = (a - b).pow(2).flatten(1).sum(1)
        apart = torch.relu(margin - square) if legacy else torch.relu(margin - d).pow(2)
        return torch.where(y.flatten() != 0, square, apart).sum() / (2 * N)

    return theirs


def triplet(margin: float = 0.2) -> Any:
    return lambda a, p, n: F.triplet_margin_with_distance_loss(
        a, p, n, distance_function=lambda x, y: (x - y).pow(2).flatten(1).sum(1), margin=margin
    )


def infogain(by: str = "VALID", ignored: int = -100) -> Any:
    def theirs(x: Any, y: Any, *matrix: Any) -> Any:
        counted = y != ignored
        rows = torch.arange(N).reshape(-1, *[1] * (y.ndim - 1))
        worth = matrix[0][rows, y] if matrix else torch.tensor(H)[y]
        each = -(worth.movedim(-1, 1) * F.log_softmax(x, 1)).sum(1)
        return mean_over(by, counted)(each)

    return theirs


def multinomial(p: Any, y: Any) -> Any:
    return F.nll_loss(p.clamp_min(1e-20).log(), y, reduction="sum") / N


def weighed(by: str, each: Callable[..., Any], ignored: int = -100) -> Any:
    """Losses of all positions, each times its label's weight; VALID is torch's, Σ w·l / Σ w."""

    def theirs(x: Any, y: Any) -> Any:
        shares = W[y.clamp(0, C - 1)] * (y != ignored)
        n = {"VALID": shares.sum(), "FULL": y.numel(), "BATCH_SIZE": N, "NONE": 1}[by]
        return (shares * each(x, y)).sum() / n

    return theirs


def one_against_all(x: Any, y: Any) -> Any:
    return torch.relu(1 - (2 * F.one_hot(y, C).movedim(-1, 1) - 1) * x).sum(1)


def worth(x: Any, y: Any) -> Any:
    return -(torch.tensor(H)[y].movedim(-1, 1) * F.log_softmax(x, 1)).sum(1)


def last(theirs: Any) -> Any:
    """A reference with the classes on axis 1, for classes on the last one."""
    return lambda x, *others: theirs(x.movedim(-1, 1), *others)


def squares(a: Any, b: Any) -> Any:
    return F.mse_loss(a, b.reshape(a.shape), reduction="sum") / (2 * N)


DENSE_LABELS: dict[str, Any] = {"labels": (N, 3, 2)}
FLAT_LABELS: dict[str, Any] = {"labels": (N,)}
PAIRS: dict[str, Any] = {"labels": (N,), "classes": 2}
W = torch.tensor(WEIGHT).double()
BY = ("VALID", "FULL", "BATCH_SIZE", "NONE")
MATRIX = {"infogain": H.flatten().tolist()}
CASES = [
    case("softmax_loss", {}, cross_entropy(), FLAT, **FLAT_LABELS),
    case("softmax_loss", {"label_smoothing": 0.1}, cross_entropy(label_smoothing=0.1), FLAT,
         **FLAT_LABELS),
    case("softmax_loss", {"label_smoothing": 1}, cross_entropy(label_smoothing=1.0), FLAT,
         **FLAT_LABELS),
    case("softmax_loss", {"label_smoothing": 0.3, "ignore_label": IGNORED},
         cross_entropy(label_smoothing=0.3, ignore_index=IGNORED), DENSE, **DENSE_LABELS),
    case("softmax_loss", {"class_weight": WEIGHT}, cross_entropy(weight=W),
         FLAT, **FLAT_LABELS),
    case("softmax_loss",
         {"class_weight": WEIGHT, "label_smoothing": 0.2, "ignore_label": IGNORED},
         cross_entropy(weight=W, label_smoothing=0.2,
                       ignore_index=IGNORED), DENSE, **DENSE_LABELS),
    case("softmax_loss", {"class_weight": [1e-3] * C, "axis": -1},
         last(cross_entropy(weight=torch.full((C,), 1e-3).double())), LAST, **DENSE_LABELS),
    *(case("softmax_loss", {"ignore_label": IGNORED, "normalization": by},
           cross_entropy(by, ignore_index=IGNORED), DENSE, **DENSE_LABELS)
      for by in BY),
    *(case("hinge_loss", {"norm": f"L{p}"}, hinge(p), FLAT, **FLAT_LABELS) for p in (1, 2)),
    case("hinge_loss", {"margin": 0.5}, hinge(1, 0.5), DENSE, **DENSE_LABELS),
    *(case("hinge_loss", {"norm": f"L{p}", "multiclass": True}, multiclass(p), FLAT, **FLAT_LABELS)
      for p in (1, 2)),
    case("hinge_loss", {"multiclass": True, "margin": 0.0}, multiclass(1, 0.0), FLAT,
         **FLAT_LABELS),
    case("hinge_loss", {"multiclass": True, "margin": 2.5, "norm": "L2"}, multiclass(2, 2.5), DENSE,
         **DENSE_LABELS),
    case("hinge_loss", {"multiclass": True, "axis": 3}, last(multiclass(1)), LAST, **DENSE_LABELS),
    case("euclidean_loss", {}, squares, FLAT, FLAT),
    case("euclidean_loss", {}, squares, (N, 4, 3), (N, 4, 3, 1)),
    case("euclidean_loss", {}, squares, (N,), (N,)),
    case("sigmoid_loss", {}, sigmoid(), FLAT, FLAT, draw="targets"),
    *(case("sigmoid_loss", {"normalization": by, "ignore_label": -1}, sigmoid(by, -1), DENSE, DENSE,
           draw="targets") for by in BY),
    *(case("smooth_l1_loss", {"sigma": sigma}, smooth_l1(sigma), FLAT, FLAT)
      for sigma in (1, 3, 0.5)),
    case("smooth_l1_loss", {}, smooth_l1(1), (N, 4), (N, 4, 1, 1)),
    case("smooth_l1_loss", {"sigma": 2}, smooth_l1(2), DENSE, DENSE, DENSE),
    case("smooth_l1_loss", {"sigma": 2}, smooth_l1(2), FLAT, FLAT, FLAT, FLAT),
    case("contrastive_loss", {"margin": 2}, contrastive(2), FLAT, FLAT, **PAIRS),
    case("contrastive_loss", {}, contrastive(), FLAT, FLAT, labels=(N, 1), classes=2),
    case("contrastive_loss", {"margin": 5, "legacy_version": True}, contrastive(5, legacy=True),
         DENSE, DENSE, **PAIRS),
    case("triplet_loss", {}, triplet(), FLAT, FLAT, FLAT),
    case("triplet_loss", {"margin": 3}, triplet(3), DENSE, DENSE, DENSE),
    case("infogain_loss", MATRIX, infogain(), FLAT, **FLAT_LABELS),
    case("infogain_loss", {**MATRIX, "axis": -1}, last(infogain()), LAST, **DENSE_LABELS),
    *(case("infogain_loss", {**MATRIX, "ignore_label": IGNORED, "normalization": by},
           infogain(by, IGNORED), DENSE, **DENSE_LABELS)
      for by in BY),
    case("infogain_loss", {}, infogain(), FLAT, **FLAT_LABELS, behind=[(N, C, C)]),
    case("infogain_loss", {}, infogain(), DENSE, **DENSE_LABELS, behind=[(N, C, C)]),
    case("multinomial_logistic_loss", {}, multinomial, FLAT, **FLAT_LABELS, draw="probabilities"),
    case("multinomial_logistic_loss", {}, multinomial, DENSE, **DENSE_LABELS, draw="probabilities"),
    case("multinomial_logistic_loss", {"class_weight": WEIGHT, "normalization": "VALID"},
         lambda p, y: F.nll_loss(p.log(), y, W), DENSE, **DENSE_LABELS, draw="probabilities"),
    *(case("hinge_loss", {"class_weight": WEIGHT, "ignore_label": IGNORED, "normalization": by},
           weighed(by, one_against_all, IGNORED), DENSE, **DENSE_LABELS) for by in BY),
    case("infogain_loss", {**MATRIX, "class_weight": WEIGHT}, weighed("VALID", worth), FLAT,
         **FLAT_LABELS),
]  # fmt: skip

SCORES: dict[str, Callable[[np.random.Generator, Sequence[int]], Any]] = {
    "normal": lambda g, shape: g.normal(size=shape),
    "large": lambda g, shape: 1e4 * g.choice([-1, 1], shape) * g.uniform(0.5, 1, shape),
    "ties": lambda g, shape: g.integers(-2, 3, shape),
    "equal": lambda _, shape: np.zeros(shape),
}


def arrays(case: Case, kind: str) -> list[Any]:
    """The bottoms: scores of a kind, targets and labels that suit the case."""
    generator = np.random.default_rng(7)
    made = [SCORES[kind](generator, shape) for shape in case.shapes]
    if case.draw == "targets":
        made[1] = generator.choice([-1, 0, 1, 0.25], case.shapes[1])
    if case.draw == "probabilities":
        made = [np.exp(x - x.max(1, keepdims=True)) for x in made]
        made = [x / x.sum(1, keepdims=True) for x in made]
    made += [generator.normal(size=shape) for shape in case.behind]
    fed = [x.astype(np.float32) for x in made]
    if case.labels:
        fed.insert(len(case.shapes), generator.integers(0, case.classes, case.labels))
    return fed


def ours(layer: Layer, fed: Sequence[Any], target: Target) -> list[Any]:
    """The loss, and its gradient with respect to each bottom of numbers."""
    op = Builder()
    bottoms = [op.input(f"x{i}", TensorType(x.shape, str(x.dtype))) for i, x in enumerate(fed)]
    context: Any = SimpleNamespace(op=op, training=True)
    (loss,) = layer.lower(context, bottoms, [])
    assert (loss.type,) == layer.infer([x.type for x in bottoms])
    numbers = [x for x in bottoms if x.type.dtype == "float32"]
    pulled = grad(op, tuple(op.ops), {loss: op.scalar(1)}, numbers)
    wanted = [loss, *(x for x in pulled if x is not None)]
    graph = formulate(op.graph(wanted, name="loss"), target).graph
    assert all(target.runs(node) for node in graph.ops)
    model = emit(graph, check=True)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    made = session.run(None, {f"x{i}": x for i, x in enumerate(fed)})
    found = iter(made[1:])
    return [made[0], *(0 if x is None else next(found) for x in pulled)]


def reference(case: Case, fed: Sequence[Any]) -> list[Any]:
    """The same by torch in float64."""
    given = [torch.from_numpy(x) for x in fed]
    given = [x.double().requires_grad_() if x.is_floating_point() else x for x in given]
    loss = case.theirs(*given)
    loss.backward()
    return [loss.detach().numpy(), *(x.grad.numpy() for x in given if x.is_floating_point())]


@pytest.mark.parametrize("target", [CPU_PLAIN, CUDA], ids=str)
@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_loss_and_gradients(case: Case, kind: str, target: Target) -> None:
    if kind == "large" and case.draw == "probabilities":
        pytest.skip("probabilities of 0: see the floor's own test")
    fed = arrays(case, kind)
    found, expected = ours(case.layer, fed, target), reference(case, fed)
    for mine, theirs in zip(found, expected, strict=True):
        assert np.all(np.isfinite(theirs))
        atol = max(1e-15, TOLERANCE * np.abs(theirs).max())
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=atol)


@pytest.mark.parametrize("normalization", BY)
@pytest.mark.parametrize(
    ("keyword", "fields"),
    [
        ("softmax_loss", {"label_smoothing": 0.1}),
        ("softmax_loss", {"class_weight": WEIGHT}),
        ("hinge_loss", {}),
        ("hinge_loss", {"multiclass": True, "norm": "L2"}),
        ("hinge_loss", {"class_weight": WEIGHT}),
        ("infogain_loss", MATRIX),
        ("multinomial_logistic_loss", {}),
        ("sigmoid_loss", {}),
    ],
)
@pytest.mark.parametrize("ignored", [IGNORED, -1, 255])
def test_nothing_counts(keyword: str, fields: Any, normalization: Any, ignored: int) -> None:
    """All labels ignored: a loss and a gradient of 0, where torch's mean is not a number."""
    layer = LAYERS[keyword](normalization=normalization, ignore_label=ignored, **fields)
    x = np.random.default_rng(0).uniform(0.1, 1, DENSE).astype(np.float32)
    labels: Any = np.full((N, 3, 2), ignored)
    if keyword == "sigmoid_loss":
        labels = np.full(DENSE, ignored, np.float32)
    loss, gradient, *_ = ours(layer, [x, labels], CPU_PLAIN)
    assert loss == 0
    assert not gradient.any()


def test_probabilities_below_the_floor() -> None:
    """Caffe's `kLOG_THRESHOLD`: the loss is -log 1e-20 and goes no further; nor does a gradient."""
    p = np.array([[0, 1], [1e-25, 1], [0.25, 0.75]], np.float32)
    layer = LAYERS["multinomial_logistic_loss"]()
    loss, gradient = ours(layer, [p, np.array([0, 0, 1])], CPU_PLAIN)
    assert loss == pytest.approx((2 * -np.log(1e-20) - np.log(0.75)) / 3, rel=1e-6)
    np.testing.assert_allclose(gradient, [[0, 0], [0, 0], [0, -1 / 0.75 / 3]], rtol=1e-6)


def test_equal_embeddings_that_are_to_differ() -> None:
    x = np.ones((2, 3), np.float32)
    layer = LAYERS["contrastive_loss"](margin=2)
    loss, a, b = ours(layer, [x, x, np.array([0, 1])], CPU_PLAIN)
    assert loss == pytest.approx(2**2 / (2 * 2), rel=1e-6)
    assert not a.any()
    assert not b.any()


@pytest.mark.parametrize("keyword", ["euclidean_loss", "smooth_l1_loss", "triplet_loss"])
def test_one_blob_against_itself(keyword: str) -> None:
    """The same value as every bottom: its gradient is the sum of what each place gets."""
    op = Builder()
    x = op.input("x", TensorType((2, 3)))
    layer = LAYERS[keyword]()
    context: Any = SimpleNamespace(op=op, training=True)
    (loss,) = layer.lower(context, [x] * layer.bottoms.start, [])
    (x_bar,) = grad(op, tuple(op.ops), {loss: op.scalar(1)}, [x])
    assert x_bar is not None
    model = emit(formulate(op.graph([loss, x_bar], name="loss"), CPU_PLAIN).graph)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    y, gradient = session.run(None, {"x": np.ones((2, 3), np.float32)})
    assert y == pytest.approx(0.2 if keyword == "triplet_loss" else 0)
    assert not gradient.any()
