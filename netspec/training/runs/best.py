"""The weights that tested best, beside those of the end."""

from __future__ import annotations

from collections.abc import Callable

from netspec.diagnostics import DataError
from netspec.training.runs.checkpoint import Progress, State, load
from netspec.training.runs.run import Run


def write_best(
    run: Run,
    progress: Progress,
    model: Callable[[State], bytes] | None,
    warn: Callable[[str], None],
) -> None:
    """Write the best weights of a run whose last ones are written, and their model.

    They come from the checkpoint of their test. Without tests there is none; if it is damaged,
    there is a warning and no file.
    """
    best = progress.best_iteration
    if best is None:
        return
    if best == progress.iteration:
        run.finish_best(None, model)
        return
    try:
        state, _ = load(run.checkpoints.path(best))
    except DataError as fault:
        warn(f"{fault}; the best weights, of iteration {best}, are not written")
        return
    run.finish_best(state, model)
