"""Cross-validation: one run for each fold of the data, and what they score together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev

from netspec.compiler import Spec, elaborate
from netspec.data.split import Fold
from netspec.diagnostics import UsageError
from netspec.ir.override import override
from netspec.training.outcome import Diverged, Outcome
from netspec.training.runs.run import runs_of

Start = Callable[[Spec, bool | Path, Fold], Outcome]
"""Trains a spec without a fold, anew or going on in a run folder."""


@dataclass(frozen=True)
class Scores:
    """What the runs of a cross-validation ended with."""

    outcomes: tuple[Outcome | None, ...]
    """By fold; None if it diverged, as not all of them did."""

    @property
    def mean(self) -> dict[str, float]:
        """Of the loss and of each metric, over those that were tested."""
        return {name: fmean(values) for name, values in self._values().items()}

    @property
    def deviation(self) -> dict[str, float]:
        """The standard deviation of each, that of a sample: over n - 1; none of fewer than two."""
        values = self._values().items()
        return {name: stdev(found) for name, found in values if len(found) > 1}

    @property
    def ended(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome is not None]

    @property
    def tested(self) -> list[Outcome]:
        """Those that came to an end with a test under the present spec."""
        return [outcome for outcome in self.ended if outcome.test]

    def _values(self) -> dict[str, list[float]]:
        names = self.tested[0].test if self.tested else {}
        return {name: [outcome.test[name] for outcome in self.tested] for name in names}


def cross_validate(
    spec: Spec,
    count: int,
    runs: Path,
    start: Start,
    *,
    resume: bool,
    warn: Callable[[str], None] = lambda _: None,
) -> Scores:
    """Train on all but one of `count` folds in turn, and test on that one.

    Each class is spread evenly over the folds, which take the place of the spec's `val`. With
    `resume` the runs of the last cross-validation go on: finished ones count, missing ones begin.
    Of one that diverges `warn` hears why, and the others go on; Diverged is raised if all do.
    UsageError if the spec has no fixed seed that the folds could hang on.
    """
    net = elaborate(spec).train.net
    if net.solver is not None and net.solver.random_seed < 0:
        raise UsageError(f"{spec.path}: folds are drawn by random_seed, which has to be fixed")
    if net.data is None:
        raise UsageError(f'{spec.path}: training needs a `data "train" {{ … }}`')
    begun = _begun(runs, net.name, count) if resume else {}
    spec = folded(spec, count)
    done: list[Outcome | None] = []
    for number in range(1, count + 1):
        try:
            done.append(start(spec, begun.get(number, False), Fold(number, count)))
        except Diverged as found:
            if number == count and not any(done):
                raise
            warn(f"fold {number} diverged: {found}")
            done.append(None)
    return Scores(tuple(done))


def folded(spec: Spec, count: int) -> Spec:
    """The spec whose validation samples are one of so many folds."""
    return replace(spec, tree=override(spec.tree, [f"data.train.val=1/{count}"]))


def _begun(runs: Path, name: str, count: int) -> dict[int, Path]:
    """The runs of the last cross-validation by fold: those from its first fold on."""
    found: dict[int, Path] = {}
    for run in runs_of(runs, name):
        fold = run.settings.fold
        if fold is not None and fold[1] == count:
            found.setdefault(fold[0], run.path)
            if fold[0] == 1:
                return found
    raise UsageError(f"there is no cross-validation of {name} in {count} folds under {runs}")
