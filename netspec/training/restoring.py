"""The state that a run goes on from."""

from __future__ import annotations

from netspec.diagnostics import DataError
from netspec.training.checkpoint import Keeper, Progress
from netspec.training.listener import Listener
from netspec.training.parts import Executor
from netspec.training.run import Run


def restore(executor: Executor, run: Run, listener: Listener | None = None) -> Progress | None:
    """Put the newest sound checkpoint of a locked run into the executor, and say if it fell back.

    None if the run has none yet: it then starts from the beginning, and ends the same. Raises
    DataError if all are damaged, or if the newest belongs to another spec.
    """
    assert run.locked
    keeper: Keeper = run.checkpoints
    found = keeper.newest()
    if found is None:
        return None
    if found.progress.spec != run.spec_hash():
        raise DataError(f"{found.path}: belongs to another text of {run.spec}")
    keeper.set_aside(found)
    for _, fault in found.damaged:
        went = f"fell back to iteration {found.progress.iteration}"
        (listener or Listener()).warned(f"{fault}; {went}")
    executor.restore(found.state)
    return found.progress
