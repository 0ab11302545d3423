"""A training that diverged goes back to its last good checkpoint.

Chowdhery et al., "PaLM", 2022, section 5.1: restart from before the spike, and skip the batches.
"""

from __future__ import annotations

from contextlib import suppress

from netspec.diagnostics import DataError
from netspec.ir.sections import Solver
from netspec.training.runs.checkpoint import Found, Keeper, Progress, load


def rolled_back(keeper: Keeper, failed: Progress, solver: Solver) -> Found | None:
    """The anchor with what the solver changes of it; None if it may or can not be.

    It is written over itself and newer ones are gone, so that a resumed training finds it.
    """
    if failed.rollbacks >= solver.rollback or failed.anchor is None:
        return None
    path = keeper.path(failed.anchor)
    try:
        state, before = load(path)
    except DataError:
        return None
    change = {
        "rollbacks": failed.rollbacks + 1,
        "rate_factor": failed.rate_factor * solver.rollback_factor,
        "left_out": failed.left_out,
        "seconds": failed.seconds,
    }
    if solver.rollback_skip:
        culprit = failed.iteration - failed.bad + failed.left_out
        change["left_out"] = culprit + solver.rollback_skip - before.iteration
    progress = before.model_copy(update=change)
    for newer in keeper.paths():
        if int(newer.stem) > before.iteration:
            with suppress(OSError):  # its last updates were bad, and would lead here again
                newer.unlink()
    keeper.save(state, progress)
    return Found(path, state, progress, ())
