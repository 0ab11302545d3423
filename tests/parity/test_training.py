"""Whole nets, trained side by side with PyTorch from the same weights on the same batches.

The twins are written by hand from papers and Caffe's rules, so they are a second derivation of
shapes, forward, gradients and updates. At a constant rate Caffe's momentum is PyTorch's times lr,
and so is the walk. With v = lr·b:

    SGD       v' = μ·v + lr·g = lr·(μ·b + g) = lr·b'                          w' = w - v'
    Nesterov  (1 + μ)·v' - μ·v = lr·((μ·b + g) + μ·b' - μ·b) = lr·(g + μ·b')  PyTorch's step
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from spec_text import SPECS, whole, without_relu

from netspec.codegen.target import CPU_PLAIN, Target
from netspec.compiler import elaborate, read
from netspec.data import open_dataset
from netspec.training.execution.executor import Executor
from netspec.training.execution.targets import find_target
from netspec.training.runs.checkpoint import State

torch: Any = pytest.importorskip("torch")
F = torch.nn.functional
pytestmark = pytest.mark.parity

STEPS, RATE, MOMENTUM, DECAY = 20, 0.01, 0.9, 5e-4
SLOW, EPS = 1e-4, 1e-4
SAMPLES, TESTS = 1024, 80
CLOSE = 1e-4
"""Relative norm of a tensor's difference."""
NEAR = 2e-2
"""The same of how far it has moved: a missing decay would show."""

TARGETS = list(dict.fromkeys([find_target("cpu").target, CPU_PLAIN]))
"""The CPU's, the fastest first."""
each_target = pytest.mark.parametrize("target", TARGETS, ids=str)

SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "AdaGrad": ("Adagrad", {}),
    "RMSProp": ("RMSprop", {"alpha": 0.99, "momentum": MOMENTUM}),
    "AdaDelta": ("Adadelta", {"rho": MOMENTUM}),
    "Adam": ("Adam", {"betas": (MOMENTUM, 0.999)}),
    "AdamW": ("AdamW", {"betas": (MOMENTUM, 0.999)}),
}
"""PyTorch's word for a solver that is not SGD, and its settings."""
THEIRS = {
    "momentum": "momentum_buffer", "squares": "sum", "mean_square": "square_avg",
    "mean_square_step": "acc_delta", "m": "exp_avg", "v": "exp_avg_sq",
}  # fmt: skip
"""What PyTorch calls our slots."""

Tensors = dict[str, npt.NDArray[np.float32]]

INCEPTION = """
data "train" { source: "?"  batch_size: 64  transform { mean_value: [120, 125, 130]  scale: 1/64 } }
data "test" { source: "?"  batch_size: 64  transform { mean_value: [120, 125, 130]  scale: 1/64 } }
input "data" { shape: 3x32x32 }

block conv_relu(num_output, kernel_size = 1, stride = 1) {
  conv {
    num_output: num_output  kernel_size: kernel_size  stride: stride
    pad: (kernel_size - 1) / 2
  }
  relu
}
block module(n1x1, n3x3_reduce, n3x3, n5x5_reduce, n5x5, pool_proj) {
  inception {
    branch { conv_relu(n1x1) }
    branch { conv_relu(n3x3_reduce)  conv_relu(n3x3, 3) }
    branch { conv_relu(n5x5_reduce)  conv_relu(n5x5, 5) }
    branch { pool { pool: MAX  kernel_size: 3  stride: 1  pad: 1 }  conv_relu(pool_proj) }
  }
}

conv_relu(16, 5, stride: 2)
pool { pool: MAX  kernel_size: 3  stride: 2 }
lrn { local_size: 5  alpha: 0.01  beta: 0.75 }
module(8, 6, 12, 2, 4, 4)
pool { pool: AVE  kernel_size: 3  stride: 2 }
module(10, 8, 14, 2, 6, 6)
pool { pool: AVE  global_pooling: true }
fc { num_output: 10 }
softmax_loss
accuracy

solver { type: SGD  base_lr: 0.01  momentum: 0.9  weight_decay: 0.0005  max_iter: 20 }
"""


@dataclass(frozen=True)
class Case:
    """A spec, and the name of its twin with what the spec's transform says."""

    text: str
    twin: str
    shape: tuple[int, ...]
    mean: tuple[float, ...]
    scale: float
    options: dict[str, Any]
    batch: int
    gated: tuple[str, float] = ("", 1)
    """What the names of weights before a ReLU contain, and by how much they are made smaller."""


def zoo(name: str) -> str:
    return whole(SPECS / f"{name}.net")


CIFAR = ((3, 32, 32), (125.0, 123.0, 114.0), 1 / 64)
CASES = {
    "lenet": Case(zoo("lenet"), "LeNet", (1, 28, 28), (0.0,), 1 / 255, {}, 64, ("ip1", 10)),
    "inception": Case(
        INCEPTION, "Inception", (3, 32, 32), (120.0, 125.0, 130.0), 1 / 64, {}, 64, ("conv", 3)
    ),
    "resnet20": Case(zoo("resnet20"), "ResNet20", *CIFAR, {}, 32),
    "resnet20 without ReLU": Case(
        without_relu(zoo("resnet20")), "ResNet20", *CIFAR, {"relu": False}, 16
    ),
}


@dataclass
class Pair:
    """The same net twice, with the same weights, and the data of both."""

    batch: int
    ours: Executor
    theirs: Any
    statistics: Callable[[Any], list[Any]]
    images: npt.NDArray[Any]
    labels: npt.NDArray[np.int64]
    mean: Any
    scale: float

    def batches(self) -> Iterator[tuple[npt.NDArray[np.int64], Any, Any]]:
        """Indices for us; normalised images and labels for them."""
        rng = np.random.default_rng(7)
        for _ in range(STEPS):
            indices = rng.integers(0, len(self.images), self.batch)
            yield indices, self.normalised(self.images[indices]), self.target(indices)

    def normalised(self, images: npt.NDArray[Any]) -> Any:
        return (torch.from_numpy(images).float() - self.mean) * self.scale

    def target(self, indices: npt.NDArray[np.int64]) -> Any:
        return torch.from_numpy(self.labels[indices])

    def sgd(self, *, nesterov: bool = False) -> Any:
        return torch.optim.SGD(
            self.theirs.parameters(), RATE, MOMENTUM, weight_decay=DECAY, nesterov=nesterov
        )

    def their_step(self, optimizer: Any, x: Any, y: Any) -> float:
        optimizer.zero_grad()
        loss = F.cross_entropy(self.theirs(x), y)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    def named(self, tensors: Iterable[Any], names: Iterable[str]) -> Tensors:
        return {n: t.detach().numpy().copy() for n, t in zip(names, tensors, strict=True)}

    def their_weights(self) -> Tensors:
        """Theirs, by our names."""
        return self.named(self.theirs.parameters(), self.ours.state().weights)

    def their_statistics(self) -> Tensors:
        return self.named(self.statistics(self.theirs), self.ours.state().statistics)


Make = Callable[..., Pair]


@pytest.fixture
def make(tmp_path: Path, twins: ModuleType) -> Make:
    """Pairs by name, target and solver, on random images and labels."""

    def make(
        name: str, target: Target, solver: str = "SGD", *, real: bool = False, **fields: Any
    ) -> Pair:
        case = CASES[name]
        path = tmp_path / "net.net"
        path.write_text(case.text, "utf-8")
        settings = {"type": solver, "momentum": MOMENTUM, "weight_decay": DECAY, **fields}
        spec = read(str(path), sets=[f"solver.{k}={v}" for k, v in settings.items()])
        nets = elaborate(spec, batch=case.batch)
        images, labels = samples(case.shape, SAMPLES, real=real)
        ours = Executor(
            nets.train.net, nets.test.net, {"data": images, "label": labels},
            {"data": images[:TESTS], "label": labels[:TESTS]}, device="cpu", seed=1,
            test_for_batch=lambda batch: elaborate(spec, batch=batch).test.net, target=target,
        )  # fmt: skip
        theirs = getattr(twins, case.twin)(**case.options)
        prepare(ours, *case.gated)
        twins.set_weights(theirs, list(ours.state().weights.values()))
        mean = torch.tensor(case.mean).reshape(-1, 1, 1)
        return Pair(case.batch, ours, theirs, twins.statistics, images, labels, mean, case.scale)

    return make


def samples(
    shape: tuple[int, ...], count: int, *, real: bool
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Images and labels: digits where they fit, else noise, as floats or as bytes."""
    if shape == (1, 28, 28):
        arrays = open_dataset("mnist", split="train", base=Path(), shape=shape).arrays
        return arrays["data"][:count], arrays["label"][:count].astype(np.int64)
    rng = np.random.default_rng(3)
    images = rng.normal(125, 64, (count, *shape))
    labels = rng.integers(0, 10, count)
    return (images.astype(np.float32) if real else images.clip(0, 255).astype(np.uint8)), labels


def prepare(ours: Executor, gated: str, shrink: float) -> None:
    """Move what is 0 or 1 at first, where a mistake could hide; set units on or off for good.

    Where a ReLU's bottom is so near 0 that rounding decides, its gradient is a matter of chance,
    and moves PyTorch itself by 1e-3 when its input is jittered by a unit in the last place. So the
    bottoms are kept away from 0: by biases of ±2, and small weights.
    """
    rng = np.random.default_rng(5)
    state = ours.state()
    for name, weight in state.weights.items():
        alone = weight.ndim == 1
        if gated and gated in name:
            weight[:] = rng.choice([-2, 2], weight.shape) if alone else weight / shrink
        elif alone:
            weight += rng.normal(0, 0.1, weight.shape)
    ours.restore(state)


def distances(ours: Tensors, theirs: Tensors) -> dict[str, float]:
    """‖ours - theirs‖ / ‖theirs‖ of each tensor."""
    assert ours.keys() == theirs.keys()
    norm = np.linalg.norm
    return {n: float(norm(ours[n] - theirs[n]) / norm(theirs[n])) for n in theirs}


def moved(start: Tensors, end: Tensors) -> Tensors:
    return {name: end[name] - start[name] for name in start}


def assert_close(ours: Tensors, theirs: Tensors, tolerance: float = CLOSE) -> None:
    far = {name: d for name, d in distances(ours, theirs).items() if not d <= tolerance}
    assert not far


@each_target
@pytest.mark.parametrize("solver", ["SGD", "Nesterov"])
@pytest.mark.parametrize("name", ["lenet", "inception", "resnet20 without ReLU"])
def test_twenty_steps_are_pytorchs(make: Make, name: str, solver: str, target: Target) -> None:
    """Weights, running statistics, every loss, and then the test set with a part batch."""
    pair = make(name, target, solver)
    before = pair.their_weights()
    optimizer = pair.sgd(nesterov=solver == "Nesterov")
    for iteration, (indices, x, y) in enumerate(pair.batches()):
        ours = pair.ours.step(iteration, indices, RATE).loss
        assert ours == pytest.approx(pair.their_step(optimizer, x, y), rel=CLOSE)
    state, theirs = pair.ours.state(), pair.their_weights()
    assert_close(state.weights, theirs)
    assert_close(moved(before, state.weights), moved(before, theirs), NEAR)
    assert_close(state.statistics, pair.their_statistics())

    pair.theirs.eval()
    with torch.no_grad():
        scores = pair.theirs(pair.normalised(pair.images[:TESTS]))
    y = pair.target(np.arange(TESTS))
    tested = pair.ours.evaluate()
    assert tested.loss == pytest.approx(float(F.cross_entropy(scores, y)), rel=CLOSE)
    (accuracy,) = tested.metrics.values()
    assert accuracy == pytest.approx(float((scores.argmax(1) == y).float().mean()))


@each_target
def test_a_falling_rate_is_caffes(make: Make, target: Target) -> None:
    """Caffe's v keeps the size of its steps; PyTorch's b does too if it is scaled by hand.

    v = lr·b before and after lr changes to lr', so b' = b·lr/lr'.
    """
    pair = make("lenet", target)
    optimizer = pair.sgd()
    rates = [RATE * (1 + 0.2 * i) ** -0.75 for i in range(STEPS)]
    for i, (indices, x, y) in enumerate(pair.batches()):
        for group in optimizer.param_groups:
            group["lr"] = rates[i]
        for memory in optimizer.state.values():
            memory["momentum_buffer"] *= rates[i - 1] / rates[i]
        pair.ours.step(i, indices, rates[i])
        pair.their_step(optimizer, x, y)
    assert_close(pair.ours.state().weights, pair.their_weights())


@each_target
@pytest.mark.parametrize("kind", ["SGD", "Nesterov", *SETTINGS])
@pytest.mark.parametrize("name", ["lenet", "inception"])
def test_each_step_is_pytorchs(make: Make, name: str, kind: str, target: Target) -> None:
    """10 single steps, each from PyTorch's weights and memory, with PyTorch's arithmetic.

    Compared are weights and memory, not the step's difference: where a gradient is near its own
    rounding error, g/√g² is ±1 by chance, a full step that no two programs agree on; the rate is
    low, and ε large, so that this does not count. ReLUs that flip in one of the steps move the
    memory of a filter by up to 8e-4. `test_solvers` holds the rules themselves to 1e-5.
    """
    fields = {"momentum": 0} if kind == "AdaGrad" else {}
    pair = make(name, target, kind, arithmetic="PYTORCH", delta=EPS, **fields)
    optimizer = optimizer_of(pair, kind)
    slots = list(pair.ours.state().slots)
    batches = list(pair.batches())[:10]
    for iteration, (indices, x, y) in enumerate(batches):
        pair.ours.restore(their_state(pair, optimizer, slots))
        pair.ours.step(iteration, indices, SLOW)
        pair.their_step(optimizer, x, y)
        ours, theirs = pair.ours.state(), their_state(pair, optimizer, slots)
        assert_close(ours.weights, theirs.weights, 1e-5)
        for slot in slots:
            assert_close(ours.slots[slot], theirs.slots[slot], 1e-3)


def optimizer_of(pair: Pair, kind: str) -> Any:
    """PyTorch's, at the slow rate."""
    if kind in ("SGD", "Nesterov"):
        sgd = pair.sgd(nesterov=kind == "Nesterov")
        sgd.param_groups[0]["lr"] = SLOW
        return sgd
    name, settings = SETTINGS[kind]
    of = getattr(torch.optim, name)
    return of(pair.theirs.parameters(), lr=SLOW, eps=EPS, weight_decay=DECAY, **settings)


def their_state(pair: Pair, optimizer: Any, slots: Iterable[str]) -> State:
    """PyTorch's weights and memory as our state."""
    weights = pair.their_weights()

    def slot(name: str) -> Tensors:
        kept = [optimizer.state.get(p, {}).get(name) for p in pair.theirs.parameters()]
        filled = [torch.zeros_like(p) if k is None else k
                  for p, k in zip(pair.theirs.parameters(), kept, strict=True)]  # fmt: skip
        return pair.named(filled, weights)

    return State(weights, {n: slot(THEIRS[n]) for n in slots}, pair.their_statistics())


@each_target
def test_batches_of_one_iteration_are_pytorchs(make: Make, target: Target) -> None:
    """iter_size 2 with clipping, against gradients that PyTorch adds up, clips and halves."""
    pair = make("lenet", target, iter_size=2, clip_gradients=0.5)
    optimizer = pair.sgd()
    batches = list(pair.batches())
    for iteration in range(STEPS // 2):
        (one, x1, y1), (two, x2, y2) = batches[2 * iteration : 2 * iteration + 2]
        ours = pair.ours.step(iteration, np.concatenate([one, two]), RATE).loss
        optimizer.zero_grad()
        losses = [F.cross_entropy(pair.theirs(x), y) for x, y in ((x1, y1), (x2, y2))]
        sum(losses).backward()
        norm = torch.nn.utils.clip_grad_norm_(pair.theirs.parameters(), 0.5)
        assert norm > 0.5, "that says nothing"
        for parameter in pair.theirs.parameters():
            parameter.grad /= 2
        optimizer.step()
        assert ours == pytest.approx(float(sum(losses).detach()) / 2, rel=CLOSE)
    assert_close(pair.ours.state().weights, pair.their_weights())


def test_resnet20_is_as_near_as_chaos_allows(make: Make) -> None:
    """With its ReLUs, no further from PyTorch than twice what PyTorch's own last bit moves it.

    A ReLU that flips by rounding changes everything behind it, and no bound says by how much; so
    the measure is PyTorch beside itself with every input moved to a neighbouring float32.
    """
    pairs = [make("resnet20", target, real=True) for target in TARGETS]
    pair = pairs[0]
    start = pair.their_weights()
    theirs = their_walk(pair, start, None)
    jittered = [distance(their_walk(pair, start, seed), theirs) for seed in range(2)]
    for pair in pairs:
        for iteration, (indices, _, _) in enumerate(pair.batches()):
            pair.ours.step(iteration, indices, RATE)
        ours = distance(pair.ours.state().weights, theirs)
        assert ours <= 2 * max(jittered), pair.ours.target
        assert ours < distance(start, theirs) / 3, "that says nothing"


def their_walk(pair: Pair, start: Tensors, jitter: int | None) -> Tensors:
    """Their weights after all steps; `jitter` seeds the direction in which each input moves."""
    with torch.no_grad():
        for parameter, weight in zip(pair.theirs.parameters(), start.values(), strict=True):
            parameter.copy_(torch.from_numpy(weight))
    optimizer = pair.sgd()
    generator = torch.Generator().manual_seed(jitter or 0)
    for _, x, y in pair.batches():
        if jitter is not None:
            to = torch.where(torch.rand(x.shape, generator=generator) < 0.5, torch.inf, -torch.inf)
            x = torch.nextafter(x, to)
        pair.their_step(optimizer, x, y)
    return pair.their_weights()


def distance(a: Tensors, b: Tensors) -> float:
    """‖a - b‖ / ‖b‖ of all tensors, each counted alike."""
    return float(np.sqrt(np.mean(np.square(list(distances(a, b).values())))))
