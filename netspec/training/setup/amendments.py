"""What options of `train` say over the spec: how long, for what time, in batches of how many."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from netspec.compiler import elaborate
from netspec.diagnostics import UsageError, printable
from netspec.ir.fields import plain
from netspec.ir.override import override
from netspec.ir.schedule import Course, learning_rate
from netspec.ir.sections import Solver
from netspec.training.runs.checkpoint import Progress
from netspec.training.runs.run import Run
from netspec.training.setup.experiment import Experiment
from netspec.training.setup.measured import weighed

_EPOCHS = re.compile(r"(\+?)([1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True)
class Amendments:
    """As they were given; None where nothing was."""

    epochs: str | None = None
    """`20` in all, or `+10` beyond what the run was to have."""
    max_time: float | None = None
    """Seconds."""
    batch: int | Literal["auto"] | None = None
    precision: Literal["FP32", "FP16"] | None = None

    def __post_init__(self) -> None:
        if self.epochs is not None and not _EPOCHS.fullmatch(self.epochs):
            said = printable(self.epochs)
            raise UsageError(f"--epochs takes a number from 1, or +10 for ten more, not `{said}`")

    def of_new(self, experiment: Experiment) -> list[str]:
        """For a run that begins, as `--set` has them; an automatic batch is not among them."""
        if self.epochs is not None and self.epochs.startswith("+"):
            raise UsageError(f"--epochs {self.epochs} is for a run that goes on: add --resume")
        return [*self._length(experiment), *self._others()]

    def of_run(self, experiment: Experiment, run: Run) -> list[str]:
        """For a run that goes on; UsageError for a batch that is not its own."""
        own = experiment.nets.train.net.batch
        if self.batch not in (None, "auto", own):
            raise UsageError(f"{run.path}: its batches are of {own} samples, and stay so")
        return [*self._length(experiment), *replace(self, batch=None)._others()]

    def _length(self, experiment: Experiment) -> list[str]:
        if self.epochs is None:
            return []
        found = _EPOCHS.fullmatch(self.epochs)
        assert found is not None
        number, solver = int(found[2]), experiment.solver
        if not found[1]:
            return [f"solver.max_epoch={number}"]
        if solver.max_epoch is not None:
            return [f"solver.max_epoch={solver.max_epoch + number}"]
        return [f"solver.max_iter={experiment.length + experiment.batches.iterations(number)}"]

    def _others(self) -> list[str]:
        time = [] if self.max_time is None else [f"solver.max_time={self.max_time:.17g}"]
        precision = [] if self.precision is None else [f"solver.precision={self.precision}"]
        batch = [batch_set(self.batch)] if isinstance(self.batch, int) else []
        return [*time, *precision, *batch]


def batch_set(batch: int) -> str:
    """A batch size of the training, as `--set` has it."""
    return f"data.train.batch_size={batch}"


def amended(experiment: Experiment, sets: Sequence[str]) -> Experiment:
    """The experiment with fields of its sections set, on the data that it has."""
    if not sets:
        return experiment
    spec = replace(experiment.spec, tree=override(experiment.spec.tree, sets))
    nets = weighed(elaborate(spec), experiment.measured)
    assert nets.train.net.solver is not None
    return replace(experiment, spec=spec, nets=nets, solver=nets.train.net.solver)


def joined(before: Sequence[str], sets: Sequence[str]) -> tuple[str, ...]:
    """Earlier and later sets, the last of each path alone; max_epoch and max_iter are one."""
    kept = {_path(text): text for text in (*before, *sets)}
    return tuple(kept.values())


def overruled(amended: Sequence[str], before: Solver, after: Solver) -> tuple[str, ...]:
    """The earlier sets of whose fields an edited spec says something else than it did before."""
    old, new = plain(before), plain(after)
    return tuple(
        text for text in amended if any(old.get(key) != new.get(key) for key in _fields(text))
    )


def _fields(text: str) -> tuple[str, ...]:
    """The fields of the solver that a set is about."""
    key = _path(text).removeprefix("solver.")
    return ("max_epoch", "max_iter") if key == "max_epoch" else (key,)


def _path(text: str) -> str:
    return text.partition("=")[0].replace("max_iter", "max_epoch")


def rate_note(before: Experiment, after: Experiment, progress: Progress) -> str:
    """What another length does to the learning rate where the run goes on; empty if nothing."""
    old, new = (_rate(experiment, progress) for experiment in (before, after))
    if old == new:
        return ""
    return (
        f"lr_policy {after.solver.lr_policy} hangs on the length: the learning rate goes on at "
        f"{new:.6g}, as of {after.length:,} iterations; of {before.length:,} it were {old:.6g}"
    )


def _rate(experiment: Experiment, progress: Progress) -> float:
    batches = experiment.batches
    epoch = Fraction(batches.samples, batches.batch_size)
    course = Course(experiment.length, epoch, progress.plateau.reductions)
    rate = learning_rate(experiment.solver, progress.iteration, course)
    return rate * progress.rate_factor
