"""Every bundled spec that has a loss lowers it."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from netspec import zoo
from netspec.codegen.target import CPU_PLAIN
from netspec.compiler import Spec, elaborate, read
from netspec.ir.analysis import cost
from netspec.ir.layer import Role
from netspec.ir.net import Net
from netspec.ir.sections import DataSection, Solver, Transform
from netspec.training.executor import Executor

BATCH, STEPS = 8, 3
LARGE = 30_000_000
"""Parameters beyond which a test would need too much memory."""
SETTINGS = {
    "data": DataSection(source="?", batch_size=BATCH, transform=Transform(scale=1 / 64)),
    "solver": Solver(type="Adam", base_lr=1e-4, max_iter=STEPS),
}


def net(name: str) -> Net:
    return elaborate(read(name)).train.net


LEARNING = [n for n in zoo.names() if any(node.layer.role is Role.LOSS for node in net(n).nodes)]


def certain(text: str) -> str:
    """A spec without dropout, so that the loss of a step depends on the weights alone."""
    return re.sub(r"dropout_ratio: [0-9.]+", "dropout_ratio: 0", text)


def losses(spec: Spec) -> list[float]:
    """Of one batch: at first, and after each step."""
    train = elaborate(spec, batch=BATCH).train.net.model_copy(update=SETTINGS)
    rng = np.random.default_rng(0)
    images = rng.normal(0, 64, (BATCH, *train.inputs["data"].sample)).astype(np.float32)
    arrays = {"data": images, "label": np.arange(BATCH)}
    executor = Executor(train, None, arrays, None, device="cpu", seed=1, target=CPU_PLAIN)
    return [executor.step(i, np.arange(BATCH), 1e-4).loss for i in range(STEPS + 1)]


@pytest.mark.parametrize("name", [n for n in LEARNING if n != "googlenet"])
def test_small(name: str, small: Callable[..., Spec]) -> None:
    """GoogLeNet has no narrow form, and is slow."""
    first, *_, last = losses(small(name, edit=certain))
    assert last < first


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in LEARNING if cost(net(n)).parameters <= LARGE])
def test_with_every_weight(name: str, small: Callable[..., Spec]) -> None:
    first, *_, last = losses(small(name, edit=certain, weights=False))
    assert last < first
