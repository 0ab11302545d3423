"""The state that a run goes on from."""

from __future__ import annotations

from typing import Any

from netspec.diagnostics import DataError, printable
from netspec.training.listener import Listener
from netspec.training.logs.events import Saved, read_events
from netspec.training.parts import Executor
from netspec.training.plateau import Plateau
from netspec.training.runs.changed import fitted
from netspec.training.runs.checkpoint import Keeper, Progress
from netspec.training.runs.run import Run


def restore(executor: Executor, run: Run, listener: Listener | None = None) -> Progress | None:
    """Put the newest sound checkpoint of a locked run into the executor, and say if it fell back.

    None if the run has none yet: it then starts from the beginning, and ends the same. One of a
    spec that the run had before gives what fits. Raises DataError if all are damaged or gone, or if
    the newest belongs to another spec.
    """
    assert run.locked
    keeper: Keeper = run.checkpoints
    found = keeper.newest()
    if found is None:
        _check_new(run)
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


def _check_new(run: Run) -> None:
    """DataError if there was a checkpoint: from its beginning, the run would lose what it has.

    One that was killed before its first has nothing that it does not make again.
    """
    results = [file for file in (run.best_weights_file, run.weights_file) if file.exists()]
    events, _ = read_events(run.events)
    if not results and not any(isinstance(event, Saved) for event in events):
        return
    begins = [f", and --weights {printable(str(file))} begins with its weights" for file in results]
    raise DataError(
        f"{printable(str(run.path))}: its checkpoints are gone, and to start over would lose what "
        f"it has; without --resume a new run starts{''.join(begins[:1])}"
    )


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
