"""Both sides of a comparison: a net's training step by netspec, and its twin's by PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from netspec.compiler import elaborate, read
from netspec.ir.net import Net
from netspec.ir.sections import DataSection, Solver
from netspec.ir.transform import Transform
from netspec.training.execution.executor import Executor

NETS = Path(__file__).with_name("nets")
RATE = 1e-5
"""So small that noise for images does not make the weights run away."""
SAMPLES, CELLS = 2048, 2**24
"""Of a data set, at most; big images are fewer."""

Arrays = Mapping[str, npt.NDArray[Any]]
Step = Callable[[int], float]
"""The whole step of an iteration, from the indices of its batch to the updated weights."""


@dataclass(frozen=True)
class Case:
    """A net of the benchmarks: a spec or its path, its twin's class, and the batch."""

    spec: str
    twin: str
    batch: int
    floor: float
    """By what PyTorch's time has to exceed ours, at least."""
    sets: tuple[str, ...] = ()


CASES = {
    "lenet": Case("lenet", "LeNet", 64, 2.0),
    "lenet_relu": Case(str(NETS / "lenet_relu.net"), "LeNetReLU", 64, 2.0),
    "vgg6": Case(str(NETS / "vgg6.net"), "VGG6", 64, 1.4),
    "resnet20": Case("resnet20", "ResNet20", 64, 1.2),
    "depthwise": Case(str(NETS / "depthwise.net"), "Depthwise", 32, 1.3),
    "resnet18": Case("resnet18", "ResNet18", 8, 1.0),
    "resnet50": Case("resnet50", "ResNet50", 8, 1.0),
    "squeezenet1_1": Case("squeezenet1_1", "SqueezeNet", 8, 1.0, ("size=224",)),
    "googlenet": Case("googlenet", "GoogLeNet", 8, 1.0),
    "alexnet": Case("alexnet", "AlexNet", 16, 1.0),
    "densenet121": Case("densenet121", "DenseNet121", 4, 0.9),
}
TRANSFORM = Transform(mean_value=(120.0,), scale=1 / 64)
SOLVER = Solver(type="SGD", base_lr=RATE, momentum=0.9, weight_decay=5e-4, max_iter=1)


def chosen(words: tuple[str, ...]) -> list[str]:
    """The nets among the words of a command line, or all; SystemExit if a word is none."""
    strange = [word for word in words if word not in CASES]
    if strange:
        raise SystemExit(f"there is no net {', '.join(strange)}: {', '.join(CASES)}")
    return list(words or CASES)


def net_of(name: str) -> Net:
    """Text to net, in phase TRAIN; a spec without data and solver gets those of the benchmarks."""
    case = CASES[name]
    net = elaborate(read(case.spec, sets=case.sets), batch=case.batch).train.net
    data = DataSection(source="noise", batch_size=case.batch, transform=TRANSFORM)
    return net.model_copy(update={"data": net.data or data, "solver": net.solver or SOLVER})


def noise(net: Net) -> Arrays:
    """A data set of bytes, and labels that every one of the nets has."""
    rng = np.random.default_rng(0)
    shape = net.inputs["data"].sample
    samples = min(SAMPLES, CELLS // prod(shape))
    images = rng.integers(0, 256, (samples, *shape), np.uint8)
    return {"data": images, "label": rng.integers(0, 10, samples)}


def ours(name: str, arrays: Arrays) -> Step:
    """The step by netspec, from the spec's text on."""
    net = net_of(name)
    executor = Executor(net, None, arrays, None, device="cpu", seed=1)
    batches = [_batch(net.batch, arrays, i) for i in range(16)]
    return lambda i: executor.step(i, batches[i % 16], RATE).loss


def pytorch(name: str, arrays: Arrays, net: Net, *, compiled: bool = False) -> Step:
    """The step by PyTorch, with the transform and the solver of `net`.

    `compiled`: gather, forward, loss and backward by torch.compile, at the first step.
    """
    import torch
    import twins
    import twins_zoo

    assert net.data is not None
    assert net.solver is not None
    transform, solver = net.data.transform, net.solver
    called = CASES[name].twin
    twin = getattr(twins_zoo if hasattr(twins_zoo, called) else twins, called)()
    x, y = (torch.from_numpy(arrays[key]) for key in ("data", "label"))
    mean = torch.tensor(transform.mean_value or (0.0,)).reshape(-1, 1, 1)
    batches = [torch.from_numpy(_batch(net.batch, arrays, i)) for i in range(16)]
    optimizer = torch.optim.SGD(
        twin.parameters(), RATE, solver.mu, weight_decay=solver.weight_decay
    )

    def forward(indices: Any) -> Any:
        images = (x[indices].float() - mean) * transform.scale
        return twins_zoo.loss(twin(images), y[indices])

    run = torch.compile(forward, dynamic=False) if compiled else forward

    def step(i: int) -> float:
        optimizer.zero_grad()
        loss = run(batches[i % 16])
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


def _batch(size: int, arrays: Arrays, i: int) -> npt.NDArray[np.int64]:
    return (np.arange(size, dtype=np.int64) + i * size) % len(arrays["label"])
