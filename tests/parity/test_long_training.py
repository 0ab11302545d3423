"""Three hundred steps: both CPU targets learn what PyTorch learns, as nearly as chaos lets them.

Rounding makes two walks part, in PyTorch too. So PyTorch beside itself, with every input moved to
a neighbouring float32, says how near two right programs come to each other.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from netspec.codegen.target import CPU_PLAIN
from netspec.compiler import elaborate, read
from netspec.data import open_dataset
from netspec.training.execution.executor import Executor
from netspec.training.execution.targets import find_target

torch: Any = pytest.importorskip("torch")
F = torch.nn.functional
pytestmark = [pytest.mark.parity, pytest.mark.slow]

SPECS = Path(__file__).parents[2] / "specs"
CIFAR = Path(__file__).parents[3] / "shared" / "data" / "cifar10-12k-jpg.zip"
TARGETS = list(dict.fromkeys([find_target("cpu").target, CPU_PLAIN]))

STEPS, MOMENTUM, DECAY = 300, 0.9, 1e-4
LAST = 50
"""Steps whose mean loss is compared."""
SEEDS = (1, 2, 3)
JITTERS = 2
"""Walks of PyTorch beside its own, for each seed: as many as it has targets beside it."""
TIMES = 2
"""The greatest distance between PyTorch's walks of a seed: how far PyTorch's and ours may part."""
FLOOR = 0.01
"""Of the loss, and of all test samples: a distance that is none."""


@dataclass(frozen=True)
class Case:
    """A net of `specs/`, its twin, what the spec's transform says, and how it is trained."""

    name: str
    twin: str
    mean: tuple[float, ...]
    scale: float
    batch: int
    rate: float = 0.05
    """The first step's."""


LENET = Case("lenet", "LeNet", (0.0,), 1 / 255, batch=64)
RESNET20 = Case("resnet20", "ResNet20", (125.0, 123.0, 114.0), 1 / 64, batch=32)


@dataclass(frozen=True)
class Ending:
    """What a walk has come to: the mean loss of its last steps, and the accuracy on the tests."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class Training:
    """A net's spec, its samples, and the batches of a seed."""

    case: Case
    spec: Any
    train: dict[str, npt.NDArray[Any]]
    test: dict[str, npt.NDArray[Any]]
    seed: int

    def steps(self) -> Iterator[tuple[int, npt.NDArray[np.int64], float]]:
        """Iterations, indices and rates; the rate falls to zero, so that a walk comes to rest."""
        rng = np.random.default_rng(self.seed)
        for i in range(STEPS):
            yield i, rng.integers(0, len(self.train["label"]), self.case.batch), self.rate(i)

    def rate(self, iteration: int) -> float:
        return self.case.rate * (1 - iteration / STEPS)

    def executor(self, target: Any) -> Executor:
        nets = elaborate(self.spec, batch=self.case.batch)
        return Executor(
            nets.train.net, nets.test.net, self.train, self.test, device="cpu", seed=self.seed,
            test_for_batch=lambda batch: elaborate(self.spec, batch=batch).test.net, target=target,
        )  # fmt: skip

    def our_walk(self, target: Any) -> Ending:
        on = self.executor(target)
        losses = [on.step(*step).loss for step in self.steps()]
        tested = on.evaluate()
        (accuracy,) = tested.metrics.values()
        return Ending(float(np.mean(losses[-LAST:])), accuracy)

    def their_walk(self, twin: Any, jitter: int | None) -> Ending:
        """`jitter` seeds the direction in which each value of an image moves."""
        optimizer = torch.optim.SGD(twin.parameters(), self.case.rate, MOMENTUM, weight_decay=DECAY)
        generator = torch.Generator().manual_seed(jitter or 0)
        losses = []
        for i, indices, rate in self.steps():
            x, y = self.samples(self.train, indices)
            if jitter is not None:
                up = torch.rand(x.shape, generator=generator) < 0.5
                near = torch.nextafter(x, torch.where(up, torch.inf, -torch.inf))
                x = torch.where(x == 0, x, near)  # beside 0 are numbers too small to compute fast
            for group in optimizer.param_groups:
                group["lr"] = rate
            for memory in optimizer.state.values():  # as in Caffe, memory keeps its steps' size
                memory["momentum_buffer"] *= self.rate(i - 1) / rate
            optimizer.zero_grad()
            loss = F.cross_entropy(twin(x), y)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        return Ending(float(np.mean(losses[-LAST:])), self.accuracy(twin))

    def accuracy(self, twin: Any) -> float:
        twin.eval()
        right = 0
        with torch.no_grad():
            for part in np.array_split(np.arange(len(self.test["label"])), 20):
                x, y = self.samples(self.test, part)
                right += int((twin(x).argmax(1) == y).sum())
        return right / len(self.test["label"])

    def samples(
        self, arrays: dict[str, npt.NDArray[Any]], indices: npt.NDArray[np.int64]
    ) -> tuple[Any, Any]:
        mean = torch.tensor(self.case.mean).reshape(-1, 1, 1)
        images = torch.from_numpy(arrays["data"][indices]).float()
        labels = torch.from_numpy(arrays["label"][indices].astype(np.int64))
        return (images - mean) * self.case.scale, labels


Compare = Callable[[Case, str, Path], None]


@pytest.fixture
def compare(twins: ModuleType) -> Compare:
    """Train a net on a source of samples with every target and in PyTorch, and compare."""

    def run(case: Case, source: str, base: Path) -> None:
        path = str(SPECS / f"{case.name}.net")
        settings = {"type": "SGD", "momentum": MOMENTUM, "weight_decay": DECAY}
        spec = read(path, sets=[f"solver.{k}={v}" for k, v in settings.items()])
        shape = elaborate(spec, batch=case.batch).train.net.inputs["data"].sample
        train, test = (
            dict(open_dataset(source, split=split, base=base, shape=shape).arrays)
            for split in ("train", "test")
        )
        walks = []
        for seed in SEEDS:
            walks.append(Walks.of(Training(case, spec, train, test, seed), twins))
            print(walks[-1], flush=True)
        for what in ("loss", "accuracy"):
            assert_within_noise(walks, what)

    return run


@dataclass(frozen=True)
class Walks:
    """The ends of all walks of a seed."""

    ours: dict[str, Ending]
    theirs: Ending
    jittered: list[Ending]

    @classmethod
    def of(cls, training: Training, twins: ModuleType) -> Walks:
        start = list(training.executor(CPU_PLAIN).state().weights.values())

        def their_walk(jitter: int | None) -> Ending:
            twin = getattr(twins, training.case.twin)()
            twins.set_weights(twin, start)
            return training.their_walk(twin, jitter)

        ours = {str(target): training.our_walk(target) for target in TARGETS}
        jittered = [their_walk(jitter) for jitter in range(JITTERS)]
        return cls(ours, their_walk(None), jittered)


def assert_within_noise(walks: list[Walks], what: str) -> None:
    """PyTorch's walk and ours end as near to each other as PyTorch's walk and its jittered ones.

    The mean of all seeds varies less, and has to be nearer.
    """

    def of(endings: Iterable[Ending]) -> list[float]:
        return [getattr(ending, what) for ending in endings]

    theirs = np.array([of([w.theirs, *w.jittered]) for w in walks])
    ends = np.array([of([w.theirs, *w.ours.values()]) for w in walks])
    noise = np.ptp(theirs, axis=1).max()
    floor = FLOOR * (theirs.max() if what == "loss" else 1)
    print(what, f"noise {noise:.4f} floor {floor:.4f}", np.ptp(ends, axis=1), ends.mean(axis=0))
    assert np.ptp(ends, axis=1).max() <= TIMES * noise + floor
    assert np.ptp(ends.mean(axis=0)) <= TIMES * noise / len(walks) ** 0.5 + floor


def test_lenet_ends_where_pytorch_does(compare: Compare) -> None:
    compare(LENET, "mnist", Path())


@pytest.mark.skipif(not CIFAR.exists(), reason=f"{CIFAR} is missing")
def test_resnet20_ends_where_pytorch_does(compare: Compare, tmp_path: Path) -> None:
    with zipfile.ZipFile(CIFAR) as archive:
        archive.extractall(tmp_path)
    compare(RESNET20, "cifar10-12k", tmp_path)
