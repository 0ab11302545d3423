"""Every bundled spec that has a loss lowers it."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from netspec import zoo
from netspec.codegen.target import CPU_PLAIN
from netspec.compiler import Spec, elaborate, read
from netspec.ir.analysis import cost
from netspec.ir.net import Net
from netspec.ir.sections import DataSection, Solver
from netspec.ir.transform import Transform
from netspec.training.execution.executor import Executor

BATCH, STEPS = 8, 3
LARGE = 30_000_000
"""Parameters beyond which a test would need too much memory."""
CLASSES = {"U-Net": 2, "Sentence classifier": 2, "Siamese": 2}
"""Of nets that have fewer than there are samples."""
SETTINGS = {
    "data": DataSection(source="?", batch_size=BATCH, transform=Transform(scale=1 / 64)),
    "solver": Solver(type="Adam", base_lr=1e-4, max_iter=STEPS),
}
LEARNING = [name for name in zoo.names() if not name.startswith("inception_")]
"""All but parts of networks, which have no loss."""


CERTAIN = {"dropout": {"dropout_ratio": 0.0}, "drop_path": {"survival": 1.0}}
"""What keeps chance out of a layer, so that a loss depends on the weights alone."""


def certain(net: Net) -> Net:
    """The net without chance, with data and a solver of the test."""
    nodes = tuple(
        node.model_copy(update={"layer": node.layer.model_copy(update=change)})
        if (change := CERTAIN.get(node.layer.keyword))
        else node
        for node in net.nodes
    )
    return net.model_copy(update={**SETTINGS, "nodes": nodes})


def arrays(train: Net) -> dict[str, NDArray[Any]]:
    """A batch of noise for each input: pixels for what the transform is for, else numbers near 0.

    Labels are different ones, as far as the net has classes; what a label is for each pixel of is
    cut in stripes.
    """
    rng = np.random.default_rng(0)
    made: dict[str, NDArray[Any]] = {}
    for name, type in train.inputs.items():
        shape = (BATCH, *type.sample)
        if type.dtype == "int64":
            made[name] = np.arange(prod(shape)).reshape(shape) % CLASSES.get(train.name, BATCH)
        else:
            spread = 64 if name in train.transformed else 1
            made[name] = rng.normal(0, spread, shape).astype(np.float32)
    return made


def losses(spec: Spec) -> list[float]:
    """Of one batch: at first, and after each step."""
    train = certain(elaborate(spec, batch=BATCH).train.net)
    executor = Executor(train, None, arrays(train), None, device="cpu", seed=1, target=CPU_PLAIN)
    return [executor.step(i, np.arange(BATCH), 1e-4).loss for i in range(STEPS + 1)]


@pytest.mark.parametrize("name", [n for n in LEARNING if n != "googlenet"])
def test_small(name: str, small: Callable[..., Spec]) -> None:
    """GoogLeNet has no narrow form, and is slow."""
    first, *_, last = losses(small(name))
    assert last < first


@pytest.mark.parametrize(
    ("name", "was", "becomes"),
    [
        ("speech1d", "over_time = true", "over_time = false"),
        ("unet", "learned = true", "learned = false"),
    ],
)
def test_choices(name: str, was: str, becomes: str, small: Callable[..., Spec]) -> None:
    """What a `let` of a spec offers instead."""

    def edit(text: str) -> str:
        assert was in text
        return text.replace(was, becomes)

    first, *_, last = losses(small(name, edit=edit))
    assert last < first


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNING)
def test_with_every_weight(name: str, small: Callable[..., Spec]) -> None:
    parameters = cost(elaborate(read(name)).train.net).parameters
    if parameters > LARGE:
        pytest.skip(f"{parameters:,} parameters")
    first, *_, last = losses(small(name, weights=False))
    assert last < first
