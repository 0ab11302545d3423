"""ResNet-20 on the CIFAR subset, cropped and flipped, beside PyTorch on the very same batches.

`follow` walks 100 steps. How close two walks can stay is PyTorch's own to say: it walks again from
weights that are moved by one unit in the last place. `follow:long` trains 30 epochs with three
seeds each, which takes an hour.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import twins
from numpy.typing import NDArray
from torch.nn import functional

from netspec.compiler import read
from netspec.ir.schedule import Course, learning_rate
from netspec.training.execution.executor import Executor
from netspec.training.execution.machine import find_machine
from netspec.training.execution.randoms import uniform
from netspec.training.setup.experiment import Experiment, prepare

CIFAR = Path(__file__).parents[3] / "shared" / "data" / "cifar10-12k-jpg.zip"
SEEDS = (1, 2, 3)
EPOCHS, STEPS, PAD = 30, 100, 4
MEAN, SCALE = (125.0, 123.0, 114.0), 1 / 64
MOMENTUM, DECAY = 0.9, 1e-4

SETS = (
    f"data.train.transform.pad={PAD}",
    "data.train.transform.crop_size=32",
    "data.train.transform.mirror=true",
    "solver.lr_policy=cosine",
    "solver.arithmetic=PYTORCH",
    f"solver.max_epoch={EPOCHS}",
)


def measure(*words: str) -> Iterator[tuple[str, str]]:
    if not CIFAR.exists():
        yield "CIFAR", f"skipped: {CIFAR} is missing"
        return
    if "long" not in words:
        theirs = their_walk(1, STEPS)
        yield "netspec beside PyTorch", apart(our_walk(1, STEPS), theirs)
        for towards in (-np.inf, np.inf):
            again = their_walk(1, STEPS, jitter=towards)
            yield f"PyTorch beside itself, an ulp to {towards}", apart(again, theirs)
        return
    reached: dict[str, list[float]] = {"netspec": [], "PyTorch": []}
    for seed in SEEDS:
        for name, walk in (("netspec", our_walk), ("PyTorch", their_walk)):
            reached[name].append(walk(seed, None).accuracy)
            yield f"{name}, seed {seed}", f"{reached[name][-1]:.2%}"
    means = [statistics.mean(shares) for shares in reached.values()]
    errors = [statistics.stdev(shares) / len(SEEDS) ** 0.5 for shares in reached.values()]
    distance = abs(means[0] - means[1]) / (errors[0] ** 2 + errors[1] ** 2) ** 0.5
    yield (
        "means",
        f"{means[0]:.2%} and {means[1]:.2%}: {distance:.1f} standard errors apart (2 at most)",
    )


class Walk:
    """The losses of the steps, and the accuracy at the end."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.accuracy = 0.0


def apart(walk: Walk, beside: Walk) -> str:
    """How far the losses lie from others, and for how long they stay within 1e-3."""
    far = np.abs(np.array(walk.losses) - beside.losses) / beside.losses
    within = next((i for i, one in enumerate(far) if one > 1e-3), len(far))
    return f"1e-3 for {within} steps, median {np.median(far):.0e}, largest {far.max():.0e}"


def experiment(seed: int) -> Experiment:
    spec = read("resnet20", sets=[*SETS, f"solver.random_seed={seed}"])
    return prepare(spec, data=CIFAR)


def steps(on: Experiment, count: int | None) -> Iterator[tuple[int, NDArray[np.int64], float]]:
    """Iterations, indices and rates."""
    course = Course(on.length)
    for i in range(on.length if count is None else count):
        yield i, on.batches.indices(i), learning_rate(on.solver, i, course)


def our_walk(seed: int, count: int | None) -> Walk:
    on, walk = experiment(seed), Walk()
    executor = Executor.of(on, find_machine("cpu"))
    walk.losses = [executor.step(*step).loss for step in steps(on, count)]
    (walk.accuracy,) = executor.evaluate().metrics.values()
    return walk


def their_walk(seed: int, count: int | None, jitter: float | None = None) -> Walk:
    """PyTorch's; every weight one representable number further towards `jitter`."""
    on, walk = experiment(seed), Walk()
    assert on.test is not None
    twin = twins.ResNet20()
    start = Executor.of(on, find_machine("cpu")).state()
    twins.set_weights(twin, list(start.weights.values()))
    if jitter is not None:
        with torch.no_grad():
            for weight in twin.parameters():
                weight.copy_(torch.nextafter(weight, torch.full_like(weight, jitter)))
    optimizer = torch.optim.SGD(twin.parameters(), 0.1, MOMENTUM, weight_decay=DECAY)
    for i, indices, rate in steps(on, count):
        for group in optimizer.param_groups:
            group["lr"] = rate
        images, labels = (torch.from_numpy(on.train.arrays[k][indices]) for k in ("data", "label"))
        optimizer.zero_grad()
        loss = functional.cross_entropy(twin(normal(moved(images, seed, i))), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        walk.losses.append(float(loss.detach()))
    twin.eval()
    with torch.no_grad():
        images, labels = (torch.from_numpy(on.test.arrays[k]) for k in ("data", "label"))
        right = sum(
            int((twin(normal(x.float())).argmax(1) == y).sum())
            for x, y in zip(torch.split(images, 100), torch.split(labels, 100), strict=True)
        )
    walk.accuracy = right / len(labels)
    return walk


def normal(images: Any) -> Any:
    return (images - torch.tensor(MEAN).reshape(-1, 1, 1)) * SCALE


def moved(images: Any, seed: int, iteration: int) -> Any:
    """Padded, cut and flipped by the lots that our step draws."""
    count, _, height, width = images.shape
    places = uniform(seed, iteration, "transform#crop", (count, 2)) * np.float32(2 * PAD + 1)
    flips = uniform(seed, iteration, "transform#mirror", (count, 1)) < 0.5
    padded = functional.pad(images.float(), (PAD,) * 4)
    seen = [
        padded[n, :, top : top + height, left : left + width]
        for n, (top, left) in enumerate(places.astype(np.int64))
    ]
    return torch.stack([x.flip(-1) if flip else x for x, flip in zip(seen, flips, strict=True)])
