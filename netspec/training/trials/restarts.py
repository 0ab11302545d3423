"""The same spec trained from several seeds, to keep the best and to know how much was luck."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from netspec.compiler import Spec, elaborate
from netspec.diagnostics import UsageError
from netspec.training.beginning import seeded, texts_in
from netspec.training.outcome import Diverged, Outcome
from netspec.training.runs.changed import changed_texts
from netspec.training.runs.run import runs_of


@dataclass(frozen=True)
class Restart:
    """One of the trainings."""

    seed: int
    outcome: Outcome | None
    """None if it diverged."""

    @property
    def score(self) -> float | None:
        """The best of its tests."""
        return None if self.outcome is None else self.outcome.best


@dataclass(frozen=True)
class Restarts:
    """All of them, in the order of their seeds."""

    runs: tuple[Restart, ...]

    @property
    def best(self) -> Restart:
        """That of the best score, the first of equal ones."""
        ended = [(run, run.outcome) for run in self.runs if run.outcome is not None]
        assert ended

        def key(found: tuple[Restart, Outcome]) -> float:
            run, outcome = found
            if run.score is None:
                return float("inf")
            return -run.score if outcome.higher else run.score

        return min(ended, key=key)[0]

    @property
    def scores(self) -> list[float]:
        """Of those that have one."""
        return [run.score for run in self.runs if run.score is not None]

    @property
    def mean(self) -> float | None:
        return fmean(self.scores) if self.scores else None

    @property
    def deviation(self) -> float | None:
        """Of the scores as a sample: over n - 1; None of fewer than two."""
        return stdev(self.scores) if len(self.scores) > 1 else None


Train = Callable[[Spec, Path | None], Outcome]
"""Trains a spec anew, or goes on in the folder of its run."""


def restarts(
    spec: Spec,
    count: int,
    train: Train,
    *,
    runs: Path,
    resume: bool = False,
    told: Callable[[int, int], None] = lambda *_: None,
    warn: Callable[[str], None] = lambda _: None,
) -> Restarts:
    """Train with the seeds random_seed, + 1, …, `count` in all, each in a run folder of its own.

    With `resume` the last run of each seed goes on, and what has none begins. `told` hears of each,
    numbered from 1. One that diverges is a row without a score, and `warn` hears why; Diverged is
    raised if all do.
    """
    done: list[Restart] = []
    for number, one in enumerate(_seeds(spec, count), 1):
        told(number, one.seed)
        folder = _last(one.spec, runs) if resume else None
        try:
            done.append(Restart(one.seed, train(one.spec, folder)))
        except Diverged as found:
            if number == count and not any(run.outcome for run in done):
                raise
            warn(f"random_seed {one.seed} diverged: {found}")
            done.append(Restart(one.seed, None))
    return Restarts(tuple(done))


@dataclass(frozen=True)
class _Seeded:
    seed: int
    spec: Spec


def _seeds(spec: Spec, count: int) -> Iterator[_Seeded]:
    solver = elaborate(spec).train.net.solver
    if solver is None:
        raise UsageError(f"{spec.path}: training needs a `solver {{ … }}`")
    first = solver.random_seed if solver.random_seed >= 0 else time.time_ns() % 2**31
    for seed in range(first, first + count):
        yield _Seeded(seed, seeded(spec, seed))


def _last(spec: Spec, runs: Path) -> Path | None:
    """The last run of this very spec: rather one of restarts than one that stands for itself."""
    found = [run for run in runs_of(runs, elaborate(spec).train.net.name) if not run.settings.fold]
    found.sort(key=lambda run: not run.settings.restarts)
    return next((run.path for run in found if not changed_texts(run, texts_in(run, spec))), None)
