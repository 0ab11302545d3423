"""Random tensors of a batch, drawn when they are asked for or while the one before is computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netspec.ir.types import Shape
from netspec.runtime.device import Device
from netspec.training.execution import randoms
from netspec.training.execution.randoms import Randoms, uniform

SHAPES: dict[str, Shape] = {"drop1": (3, 5), "noise": (2, 2, 2)}
SEED = 7


class Remote:
    """Memory of a device that is not at hand: what was sent to it stays, whatever the host does."""

    pointer = 0

    def __init__(self, device: Device, shape: Shape, dtype: Any) -> None:
        self.host = np.zeros(shape, dtype)
        self.sent: list[np.ndarray[Any, Any]] = []

    def send(self) -> None:
        self.sent.append(self.host.copy())


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> dict[Shape, Remote]:
    """The memory that was made, by its shape."""
    found: dict[Shape, Remote] = {}

    def feed(device: Device, shape: Shape, dtype: Any) -> Remote:
        return found.setdefault(shape, Remote(device, shape, dtype))

    monkeypatch.setattr(randoms, "Feed", feed)
    return found


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
@pytest.mark.parametrize(
    "iterations", [range(5), [0, 1, 2, 0, 1], [4, 4, 4], [9, 3]], ids=["on", "back", "same", "far"]
)
def test_each_iteration_has_its_own(kind: Any, iterations: Any, made: dict[Shape, Remote]) -> None:
    """Whether the next was foretold or not, such as after a fall back to a checkpoint."""
    drawn = Randoms(SHAPES, Device(kind), SEED)
    for iteration in iterations:
        drawn.send(iteration)
    for name, shape in SHAPES.items():
        wanted = [uniform(SEED, iteration, name, shape) for iteration in iterations]
        np.testing.assert_array_equal(made[shape].sent, wanted)


def test_cuda_has_the_next_drawn_ahead(made: dict[Shape, Remote]) -> None:
    drawn = Randoms(SHAPES, Device("cuda"), SEED)
    drawn.send(0)
    assert drawn._worker is not None
    drawn._worker.settle()
    for name, shape in SHAPES.items():
        np.testing.assert_array_equal(made[shape].host, uniform(SEED, 1, name, shape))


def test_what_is_asked_for_again_is_not_drawn_again(
    made: dict[Shape, Remote], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is anything drawn ahead then: nobody knows what comes."""
    drawn: list[int] = []
    fill = randoms.fill_uniform

    def counting(out: Any, seed: int, iteration: int, name: str, begin: int = 0) -> None:
        drawn.append(iteration)
        fill(out, seed, iteration, name, begin)

    monkeypatch.setattr(randoms, "fill_uniform", counting)
    sent = Randoms({"drop1": (3, 5)}, Device("cuda"), SEED)
    for _ in range(4):
        sent.send(0)
    assert drawn == [0, 1, 0]


@pytest.mark.parametrize("place", ["ask", "wait_for"])
def test_an_interrupt_leaves_nobody_drawing(
    place: str, made: dict[Shape, Remote], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C after the worker was asked, or while it is waited for."""
    drawn = Randoms(SHAPES, Device("cuda"), SEED)
    drawn.send(0)
    worker = drawn._worker
    assert worker is not None
    real, times = getattr(worker, place), iter([KeyboardInterrupt])

    def interrupted(task: Any) -> None:
        if place == "ask":
            real(task)
        if next(times, None) is not None:
            raise KeyboardInterrupt
        if place == "wait_for":
            real(task)

    with monkeypatch.context() as patch:
        patch.setattr(worker, place, interrupted)
        with pytest.raises(KeyboardInterrupt):
            drawn.send(1)
    drawn.send(7)
    for name, shape in SHAPES.items():
        np.testing.assert_array_equal(made[shape].sent[-1], uniform(SEED, 7, name, shape))


def test_the_cpu_draws_nothing_ahead(made: dict[Shape, Remote]) -> None:
    """There the host's memory is the graph's."""
    drawn = Randoms(SHAPES, Device("cpu"), SEED)
    drawn.send(0)
    for name, shape in SHAPES.items():
        np.testing.assert_array_equal(made[shape].host, uniform(SEED, 0, name, shape))


def test_a_shard_has_its_rows_of_the_whole(made: dict[Shape, Remote]) -> None:
    Randoms({"drop1": (2, 5)}, Device("cuda"), SEED, shard=2).send(4)
    whole = uniform(SEED, 4, "drop1", (6, 5))
    np.testing.assert_array_equal(made[2, 5].sent, [whole[4:]])


def test_nothing_to_draw_needs_no_thread() -> None:
    assert Randoms({}, Device("cuda"), SEED)._worker is None
