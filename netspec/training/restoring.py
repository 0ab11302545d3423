"""The state that a run goes on from."""

from __future__ import annotations

from typing import Any

from netspec.diagnostics import DataError
from netspec.training.listener import Listener
from netspec.training.parts import Executor
from netspec.training.plateau import Plateau
from netspec.training.runs.changed import fitted
from netspec.training.runs.checkpoint import Keeper, Progress
from netspec.training.runs.run import Run


def restore(executor: Executor, run: Run, listener: Listener | None = None) -> Progress | None:
    """Put the newest sound checkpoint of a locked run into the executor, and say if it fell back.

    None if the run has none yet: it then starts from the beginning, and ends the same. One of a
    spec that the run had before gives what fits. Raises DataError if all are damaged, or if the
    newest belongs to another spec.
    """
    assert run.locked
    keeper: Keeper = run.checkpoints
    found = keeper.newest()
    if found is None:
        return None
    progress, state, notes = found.progress, found.state, tuple[str, ...]()
    if progress.spec != run.spec_hash():
        if progress.spec not in {change.spec for change in run.settings.changes}:
            raise DataError(f"{found.path}: belongs to another text of {run.spec}")
        fit = fitted(state, executor.state())
        state, notes = fit.state, fit.notes
        progress = _under(progress, run)
    keeper.set_aside(found)
    for _, fault in found.damaged:
        went = f"fell back to iteration {found.progress.iteration}"
        (listener or Listener()).warned(f"{fault}; {went}")
    for note in notes:
        (listener or Listener()).warned(note)
    executor.restore(state)
    return progress


def _under(progress: Progress, run: Run) -> Progress:
    """What holds under the run's present spec; tests of another one compare with none of its."""
    fresh = Progress()
    forgotten = (
        "averages",
        "best",
        "best_iteration",
        "goal",
        "stalled",
        "anchor",
        "test",
    )
    change: dict[str, Any] = {name: getattr(fresh, name) for name in forgotten}
    change["plateau"] = Plateau(reductions=progress.plateau.reductions)  # a rate stays cut
    change |= {"spec": run.spec_hash(), "seed": run.settings.seed}
    return progress.model_copy(update=change)
