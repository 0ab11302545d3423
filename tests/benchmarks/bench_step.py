"""One training step beside PyTorch eager: gather, forward, backward, update, at batch 64."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from netspec.compiler import elaborate, read
from netspec.runtime.state import Binding
from netspec.training.executor import Executor

BATCH, SAMPLES = 64, 2048
BLOCKS, STEPS = 15, 4
PAUSE = 0.1
"""Seconds for the other side's threads to stop spinning."""
THREADS = 2
RATE = 1e-3
"""So small that noise for images does not make the weights run away."""

Step = Callable[[int], Any]


def measure() -> Iterator[tuple[str, str]]:
    try:
        import torch
    except ImportError:
        yield "skipped", "PyTorch is not installed: pip install netspec[parity]"
        return
    torch.set_num_threads(THREADS)
    for name, twin in (("lenet", "LeNet"), ("resnet20", "ResNet20")):
        executor, theirs = ours(name), pytorch(twin)
        inside = Inside()
        mine, other = race(executor, theirs)
        yield f"{name}: ours", spread(mine)
        yield f"{name}: PyTorch {torch.__version__}", spread(other)
        ratio = statistics.median(other) / statistics.median(mine)
        best = min(other) / statistics.median(mine)
        yield f"{name}: PyTorch / ours", f"{ratio:.2f} (their best block / our median {best:.2f})"
        with inside:
            started = time.perf_counter()
            for i in range(20):
                executor(i)
            outside = time.perf_counter() - started - inside.seconds
        yield f"{name}: outside of the sessions", f"{outside / 20 * 1e3:.3f} ms per step"


def data(shape: tuple[int, ...]) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (SAMPLES, *shape), np.uint8), rng.integers(0, 10, SAMPLES)


def batch(i: int) -> Any:
    return (np.arange(BATCH, dtype=np.int64) + i * BATCH) % SAMPLES


def ours(name: str) -> Step:
    nets = elaborate(read(name), batch=BATCH)
    net = nets.train.net
    images, labels = data(net.inputs["data"].sample)
    arrays = {"data": images, "label": labels}
    executor = Executor(net, None, arrays, None, device="cpu", seed=1)
    return lambda i: executor.step(i, batch(i), RATE)


def pytorch(twin: str) -> Step:
    import torch
    import twins

    net = getattr(twins, twin)()
    images, labels = data((1, 28, 28) if twin == "LeNet" else (3, 32, 32))
    # Normalisation as the specs have it.
    mean = torch.tensor([0.0] if twin == "LeNet" else [125.0, 123.0, 114.0]).reshape(-1, 1, 1)
    scale = 1 / 255 if twin == "LeNet" else 1 / 64
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    optimizer = torch.optim.SGD(net.parameters(), RATE, 0.9, weight_decay=5e-4)

    def step(i: int) -> float:
        indices = torch.from_numpy(batch(i))
        optimizer.zero_grad()
        scores = net((x[indices].float() - mean) * scale)
        loss = torch.nn.functional.cross_entropy(scores, y[indices])
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def race(*sides: Step) -> tuple[list[float], ...]:
    """Milliseconds per step of each side, block by block in turn."""
    times: tuple[list[float], ...] = tuple([] for _ in sides)
    for step in sides:
        for i in range(3):
            step(i)
    for block in range(BLOCKS):
        for step, kept in zip(sides, times, strict=True):
            time.sleep(PAUSE)
            step(block)
            started = time.perf_counter()
            for i in range(STEPS):
                step(block * STEPS + i)
            kept.append((time.perf_counter() - started) / STEPS * 1e3)
    return times


class Inside:
    """Counts the seconds spent in onnxruntime while it is entered."""

    seconds = 0.0

    def __enter__(self) -> None:
        self._run = run = Binding.run

        def timed(binding: Binding) -> None:
            started = time.perf_counter()
            run(binding)
            self.seconds += time.perf_counter() - started

        Binding.run = timed  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        Binding.run = self._run  # type: ignore[method-assign]


def spread(times: list[float]) -> str:
    low, middle, high = statistics.quantiles(times, n=4)
    return f"{middle:.2f} ms (quartiles {low:.2f} to {high:.2f}, least {min(times):.2f})"
