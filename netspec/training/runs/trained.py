"""The weights that a run has come to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from netspec.diagnostics import DataError, UsageError
from netspec.ir.net import Net
from netspec.training.runs.checkpoint import load
from netspec.training.runs.run import Run
from netspec.weights import check_weights


def trained_weights(run: Run, net: Net, *, best: bool = False) -> Mapping[str, NDArray[Any]]:
    """The final weights of a run, or those of its newest checkpoint while it is not finished.

    `best` are those that tested best so far. UsageError if there are none.
    """
    weights: Mapping[str, NDArray[Any]] | None = run.trained(best=best)
    if weights is None:
        weights = _of_checkpoint(run, best)
    try:
        check_weights(net, weights)
    except DataError as error:
        raise DataError(f"{run.path}: {error}") from None
    return weights


def _of_checkpoint(run: Run, best: bool) -> dict[str, NDArray[Any]]:
    found = run.checkpoints.newest()
    if found is None:
        raise UsageError(f"{run.path}: has no weights yet")
    state, iteration = found.state, found.progress.best_iteration
    if best:
        if iteration is None:
            raise UsageError(f"{run.path}: has no test yet, of which weights were the best")
        state, _ = load(run.checkpoints.path(iteration))
    result = state.result
    return {**result.weights, **result.statistics}
