"""What a training's samples went through: which were bad, how long steps waited, which files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from netspec.data import Reading
from netspec.data.tolerance import Tolerance
from netspec.diagnostics import DataError, UsageError, printable
from netspec.files import reaching, write_durably
from netspec.training.execution.executor import Executor
from netspec.training.outcome import Outcome
from netspec.training.runs.run import Run
from netspec.training.setup.experiment import Experiment

BAD = "bad-samples.txt"
"""In a run's folder: the samples that were passed over, a line each."""


@dataclass(frozen=True)
class Feeding:
    """How the samples of a training are read."""

    tolerance: Tolerance

    @classmethod
    def of(cls, skip_bad: int, tell: Callable[[str], None]) -> Feeding:
        """For a new run."""
        return cls(Tolerance(skip_bad, tell))

    def again(self, run: Run, skip_bad: int | None) -> Feeding:
        """For a run that goes on: it counts on from those that it met before."""
        known = _remembered(run)
        limit = allowed(run) if skip_bad is None else skip_bad
        return Feeding(Tolerance(limit, self.tolerance.tell, known))

    @property
    def reading(self) -> Reading:
        """What the data sets are opened with."""
        return Reading(tolerance=self.tolerance)

    @contextmanager
    def during(self, executor: Executor, run: Run) -> Iterator[None]:
        """Threads end with the training, however that ends; the run remembers bad samples."""
        tell = self.tolerance.tell

        def told(message: str) -> None:
            tell(message)
            self._remember(run)

        self.tolerance.tell = told
        try:
            self._remember(run)
            yield
        finally:
            executor.close()

    def _remember(self, run: Run) -> None:
        """A run that was killed is to know them, too; a full disk is no reason to stop."""
        names = [printable(str(Path(name).absolute())) for name in self.tolerance.names]
        text = "".join(f"{name}\n" for name in names)
        if text:
            with suppress(DataError):
                write_durably(run.path / BAD, [text.encode()])

    def complete(self, executor: Executor) -> Callable[[Outcome], Outcome]:
        """Puts into an outcome what the loop does not see."""

        def completed(outcome: Outcome) -> Outcome:
            waited = executor.waited
            each = None if waited is None or not outcome.ran else waited / outcome.ran
            return replace(outcome, waited=each, bad_samples=len(self.tolerance.names))

        return completed


def allowed(run: Run) -> int:
    """How many bad samples a run may pass over: as many as it began with, or went on to meet."""
    return max(run.settings.skip_bad, len(_remembered(run)))


def _remembered(run: Run) -> tuple[str, ...]:
    """The bad samples that a run met."""
    with reaching(run.path / BAD, "read"), suppress(FileNotFoundError):
        return (*(run.path / BAD).read_text("utf-8", "replace").splitlines(),)
    return ()


def manifests(experiment: Experiment) -> dict[str, str]:
    """The hashes of the manifests that the data were compared with, by phase."""
    found = {"TRAIN": experiment.train, "TEST": experiment.test}
    return {phase: data.manifest for phase, data in found.items() if data and data.manifest}


def check_manifests(run: Run, found: Mapping[str, str]) -> None:
    """UsageError if a run that goes on would do so with other data than it began with."""
    for phase, digest in run.settings.manifests.items():
        if found.get(phase) != digest:
            what = "has changed since" if phase in found else "is no longer there"
            raise UsageError(f"{run.path}: the manifest of the data of phase {phase} {what}")
