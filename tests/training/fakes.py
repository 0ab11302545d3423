"""A training without tensors of a device, for tests of the loop around it."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netspec.data.order import Batches
from netspec.ir.sections import Solver
from netspec.training.listener import Listener
from netspec.training.loop import train
from netspec.training.outcome import Outcome
from netspec.training.restoring import restore
from netspec.training.runs.checkpoint import State
from netspec.training.runs.run import Run
from netspec.training.runs.settings import Settings

LENGTH = 12
SOLVER = Solver(
    base_lr=0.1,
    lr_policy="poly",
    power=1.0,
    momentum=0.9,
    max_iter=LENGTH,
    display=2,
    random_seed=7,
)


class Killed(BaseException):
    """Stands for the end of the process."""


@dataclass
class Fake:
    """A deterministic training: momentum on a vector, a running mean, and hooks before calls."""

    bad: frozenset[int] = frozenset()
    sought: frozenset[int] = frozenset()
    """Those of the bad iterations that may be for the scale of the loss."""
    before_step: Callable[[int], None] = lambda _: None
    before_test: Callable[[], None] = lambda: None
    before_state: Callable[[], None] = lambda: None
    asked: list[int | None] = field(default_factory=list)
    """How many batches each test was to have."""
    w: NDArray[np.float32] = field(default_factory=lambda: np.ones(5, np.float32))
    v: NDArray[np.float32] = field(default_factory=lambda: np.zeros(5, np.float32))
    mean: NDArray[np.float32] = field(default_factory=lambda: np.zeros((), np.float32))

    def step(
        self, iteration: int, indices: NDArray[Any], rate: float, stopped: Callable[[], bool]
    ) -> Any:
        self.before_step(iteration)
        losses = {"a": float(self.w.sum()), "b": 1.0}
        if iteration in self.bad:
            nan = float("nan")
            lost = {"loss": nan, "losses": {"a": nan, "b": nan}, "metrics": {}, "finite": False}
            return SimpleNamespace(**lost, sought=iteration in self.sought)
        gradient = np.sin(self.w * np.float32(indices.sum() + iteration)).astype(np.float32)
        self.v = np.float32(0.9) * self.v + np.float32(rate) * gradient
        self.w = self.w - self.v
        self.mean = np.float32(0.9) * self.mean + np.float32(indices[0])
        loss = float(np.abs(self.w).sum())
        found = {"loss": loss, "losses": losses, "metrics": {"accuracy": 0.5}}
        return SimpleNamespace(**found, finite=True, sought=False)

    def evaluate(self, batches: int | None = None) -> Any:
        self.asked.append(batches)
        self.before_test()
        score = float(np.cos(self.w).mean())
        metrics = {"accuracy": score}
        return SimpleNamespace(loss=1 - score, losses={"a": 1 - score}, metrics=metrics, samples=3)

    def state(self) -> State:
        self.before_state()
        return State({"w": self.w}, {"momentum": {"w": self.v}}, {"mean": self.mean})

    def restore(self, state: State) -> None:
        self.w, self.v = state.weights["w"], state.slots["momentum"]["w"]
        self.mean = state.statistics["mean"]


@dataclass
class Ear(Listener):
    """Notes what it hears."""

    heard: list[tuple[str, Any]] = field(default_factory=list)

    def started(self, iteration: int, length: int, run: Path) -> None:
        self.heard.append(("started", iteration))

    def tested(self, iteration: int, values: Mapping[str, float]) -> None:
        self.heard.append(("tested", iteration))

    def saved(self, iteration: int, path: Path) -> None:
        self.heard.append(("saved", iteration))

    def warned(self, message: str) -> None:
        self.heard.append(("warned", message))

    def finished(self, outcome: Outcome) -> None:
        self.heard.append(("finished", outcome))

    def of(self, kind: str) -> list[Any]:
        return [what for name, what in self.heard if name == kind]


def samples(folder: Path) -> None:
    """Twelve images of three classes, both by chance, as `samples.npz`."""
    generator = np.random.default_rng(0)
    np.savez(
        folder / "samples.npz",
        data=generator.standard_normal((12, 3, 4, 4)).astype(np.float32),
        label=generator.integers(0, 3, 12),
    )


def make(root: Path) -> Run:
    return Run.create(root, Settings(name="net", seed=7), {"spec.net": 'name: "net"\n'})


def go(
    run: Run, fake: Fake, *, solver: Solver = SOLVER, ear: Listener | None = None, **more: Any
) -> Outcome:
    """Train, or go on, in a locked run."""
    with run.lock():
        progress = restore(fake, run, ear)
        more = {"length": LENGTH, "model": onnx, **more}
        batches = Batches(10, 4, seed=7, shuffle=True)
        return train(fake, batches, solver, run, resume=progress, listener=ear, **more)


def onnx(state: State) -> bytes:
    return b"onnx" + state.weights["w"].tobytes()


def result(run: Run) -> tuple[bytes, bytes, list[list[str]]]:
    """Everything that must not hang on kills: weights, model, and the log without its seconds."""
    with run.log.open(newline="") as file:
        rows = [row[:-1] for row in csv.reader(file)]
    return run.weights_file.read_bytes(), run.model_file.read_bytes(), rows


def asking(**fields: Any) -> Solver:
    return Solver.model_validate({**SOLVER.model_dump(exclude_defaults=True), **fields})
