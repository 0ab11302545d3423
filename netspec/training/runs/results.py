"""The weights of the end, and those that tested best."""

from __future__ import annotations

from collections.abc import Callable

from netspec.diagnostics import DataError
from netspec.runtime.verify import Unverifiable
from netspec.training.outcome import Diverged
from netspec.training.runs.checkpoint import Progress, State, load
from netspec.training.runs.run import Model, Run


def write_results(
    run: Run,
    state: State,
    progress: Progress,
    model: Model | None,
    warn: Callable[[str], None],
) -> None:
    """Write the last weights and the best ones, if there were tests, and a model of each.

    The best come first: they may make a model where the weights of the end have grown too large
    for one, which is Diverged.
    """
    best = progress.best_iteration
    try:
        if best is not None and best != progress.iteration:
            _write_best(run, best, model, warn)
        run.finish(state, model)
    except Unverifiable as fault:
        raise Diverged(f"{run.path}: {fault}") from None
    if best == progress.iteration:
        run.finish_best(None, model)


def _write_best(run: Run, best: int, model: Model | None, warn: Callable[[str], None]) -> None:
    """From the checkpoint of their test; if it is damaged, there is a warning and no file."""
    try:
        state, _ = load(run.checkpoints.path(best))
    except DataError as fault:
        warn(f"{fault}; the best weights, of iteration {best}, are not written")
        return
    run.finish_best(state, model)
