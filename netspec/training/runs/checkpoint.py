"""Checkpoints: the state of a training, in files that no crash loses and no damage passes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from netspec.diagnostics import DataError, printable
from netspec.files import reaching
from netspec.training.metrics import Averages
from netspec.training.plateau import Plateau
from netspec.training.runs.tensors import OutOfReach, damaged, read_tensors, write_tensors

_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class State:
    """Every tensor that training changes, by name: a checkpoint knows no offsets."""

    weights: dict[str, NDArray[np.float32]]
    slots: dict[str, dict[str, NDArray[np.float32]]]
    """The solver's memory, such as `momentum`: a tensor per trained weight."""
    statistics: dict[str, NDArray[np.float32]]
    averages: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """With `ema_decay`, the running mean of each trained weight and of each statistic that moves;
    where they are left out, they begin at the weights."""
    scaling: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """In half precision the loss's `scale`, and the `good` updates since it changed."""

    @property
    def result(self) -> State:
        """What is tested and written: the running means, where there are any, as the weights."""
        return State(
            {n: self.averages.get(n, w) for n, w in self.weights.items()},
            {},
            {n: self.averages.get(n, s) for n, s in self.statistics.items()},
        )

    @property
    def finite(self) -> bool:
        """Whether all weights are numbers: an update may overflow though its gradient did not."""
        return all(bool(np.isfinite(array).all()) for array in self.weights.values())


class Ending(BaseModel):
    """An end that came before the planned one."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    reason: Literal["early_stopping", "max_time"]
    """The solver's field that wanted it."""
    iteration: NonNegativeInt
    """Iterations done by then."""
    length: NonNegativeInt
    """Iterations that were planned."""


class Progress(BaseModel):
    """Everything beside the tensors that the rest of a training hangs on."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", ser_json_inf_nan="constants"
    )

    iteration: NonNegativeInt = 0
    """Iterations done."""
    recorded: int = -1
    """The last iteration after which the log got its row and the test, if due, was run; 0 stands
    for the test before the first."""
    averages: Averages = Averages()
    recent: tuple[float, ...] = ()
    """The last finite losses, as many as the solver's `average_loss` goes back."""
    best: float | None = None
    """The best test accuracy so far, or the lowest test loss where there is no metric."""
    best_iteration: NonNegativeInt | None = None
    plateau: Plateau = Plateau()
    bad: NonNegativeInt = 0
    """Updates skipped in a row, up to now, because something was not finite; in half precision
    those alone that no smaller scale of the loss would mend."""
    skipped: NonNegativeInt = 0
    """Updates skipped in all."""
    last_loss: float | None = None
    """The last finite training loss."""
    test: dict[str, float] = {}
    """What the last test gave: `loss` and the metrics."""
    seed: int = 0
    spec: str = ""
    """The hash of the spec as run."""
    seconds: float = 0.0
    """Spent on training up to the checkpoint; nothing but `max_time` hangs on it."""
    goal: float | None = None
    """The score that `early_stopping` wants to see beaten."""
    stalled: NonNegativeInt = 0
    """Tests in a row that did not beat it."""
    ending: Ending | None = None
    anchor: NonNegativeInt | None = None
    """Iterations done at the checkpoint that a divergence goes back to: the last one, with a good
    update before it, that was due. Those that a signal or the clock brought must change nothing."""
    rollbacks: NonNegativeInt = 0
    """How often the training went back to a checkpoint since it diverged."""
    rate_factor: float = 1.0
    """What this made of the learning rate."""
    left_out: NonNegativeInt = 0
    """By how many batches it is ahead of the iterations since."""


def save(path: Path, state: State, progress: Progress) -> None:
    """Write a checkpoint; when this returns, it survives a power cut.

    Tensors are `weights/<name>`, `slots/<slot>/<name>`, `statistics/<name>` and, where there are
    means, `averages/<name>`, in half precision `scaling/<name>`. Nothing is copied: the file is
    written from the arrays themselves.
    Raises DataError, the file that was there kept.
    """
    assert not any("/" in slot for slot in state.slots)
    slots = {f"slots/{slot}": tensors for slot, tensors in state.slots.items()}
    sections = {"weights": state.weights, **slots, "statistics": state.statistics}
    if state.averages:
        sections["averages"] = state.averages
    if state.scaling:
        sections["scaling"] = state.scaling
    write_tensors(path, "checkpoint", sections, {"progress": progress.model_dump_json()})


def load(path: Path) -> tuple[State, Progress]:
    """Read a checkpoint and verify all of it; a DataError names the file and the section."""
    sections, facts = read_tensors(path, "checkpoint")
    try:
        progress = Progress.model_validate_json(facts["progress"])
        weights, statistics = sections.pop("weights"), sections.pop("statistics")
        averages, scaling = sections.pop("averages", {}), sections.pop("scaling", {})
        slots = {name.removeprefix("slots/"): tensors for name, tensors in sections.items()}
    except (KeyError, ValidationError):
        raise damaged(path, "header", "is not that of a checkpoint") from None
    return State(weights, slots, statistics, averages, scaling), progress


@dataclass(frozen=True)
class Found:
    """A checkpoint that was read and verified, and newer ones that are damaged or out of reach."""

    path: Path
    state: State
    progress: Progress
    damaged: tuple[tuple[Path, DataError], ...]


class Keeper:
    """The checkpoints of a run, `<iteration>.safetensors`: the last few, the best, the anchor."""

    def __init__(self, folder: Path, *, keep: int = 3) -> None:
        self.folder = folder
        self.keep = keep

    def paths(self) -> list[Path]:
        """Oldest first."""
        with reaching(self.folder, "read"):
            found = [p for p in self.folder.glob(f"[0-9]*{_SUFFIX}") if p.stem.isdecimal()]
        return sorted(found, key=lambda p: int(p.stem))

    def path(self, iteration: int) -> Path:
        """Where the checkpoint after so many iterations is or would be."""
        return self.folder / f"{iteration:08d}{_SUFFIX}"

    def save(self, state: State, progress: Progress) -> Path:
        """Write one; only then let go of those that nobody goes back to.

        Later ones that were out of reach are of a course that the training has left.
        """
        path = self.path(progress.iteration)
        save(path, state, progress)
        found = self.paths()
        now = found.index(path) + 1
        for left in found[now:]:
            with suppress(OSError):
                left.rename(left.with_suffix(".left"))
        wanted = (progress.best_iteration, progress.anchor)
        recent = found[:now][-self.keep :]
        kept = {*recent, *(self.path(i) for i in wanted if i is not None)}
        for old in found[:now]:
            if old not in kept:
                with suppress(OSError):  # one too many harms nobody
                    old.unlink()
        return path

    def newest(self) -> Found | None:
        """The newest that is whole; None where none was written; DataError if all are damaged."""
        faulty: list[tuple[Path, DataError]] = []
        for path in reversed(self.paths()):
            try:
                return Found(path, *load(path), tuple(faulty))
            except DataError as fault:
                faulty.append((path, fault))
        if faulty:
            raise DataError(
                f"{printable(str(self.folder))}: no checkpoint can be read: {faulty[0][1]}"
            )
        return None

    @staticmethod
    def set_aside(found: Found) -> None:
        """Rename damaged checkpoints, so that they do not count as recent ones.

        Those that only could not be read stay until the next one is written: they may be yet.
        """
        for path, fault in found.damaged:
            if isinstance(fault, OutOfReach):
                continue
            with suppress(OSError):
                path.rename(path.with_suffix(".damaged"))
