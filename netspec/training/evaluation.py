"""Loss and metrics of trained weights on the test data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from netspec.compiler import (
    Spec,
    elaborate,
)
from netspec.data import (
    Dataset,
)
from netspec.data.classes import same_classes
from netspec.diagnostics import DataError, UsageError
from netspec.ir.layer import Phase
from netspec.ir.net import Net
from netspec.runtime.device import choose_device
from netspec.training.checkpoint import load
from netspec.training.evaluator import Evaluation, Evaluator
from netspec.training.experiment import run_spec
from netspec.training.opening import open_phase, open_validation
from netspec.training.run import Run
from netspec.weights import check_weights


def evaluate_run(
    run: Run, *, data: Path | None, device: str, batches: int | None = None, split: str = "test"
) -> Evaluation:
    """Loss and metrics of a run's newest weights on its test data, or on `data`; see `Evaluator`.

    With `split` "val" on what the tests of its training looked at. UsageError if there are none,
    DataError if weights or data are damaged.
    """
    spec = run_spec(run)
    nets = elaborate(spec)
    net = nets.test.net
    if split == "val":
        dataset = open_validation(run, spec, nets, data=data)
    else:
        source = run.settings.data.get(Phase.TEST)
        dataset, _ = open_phase(spec, net, Phase.TEST, data=data, source=source)
    same_classes(dataset, run.settings.classes)
    return _evaluated(spec, net, dataset, trained_weights(run, net), device, batches)


def evaluate_spec(
    spec: Spec,
    weights: Mapping[str, NDArray[Any]],
    *,
    data: Path | None,
    device: str,
    batches: int | None = None,
) -> Evaluation:
    """Loss and metrics of a spec with these weights on its test data; see `Evaluator`.

    UsageError if it has no test data, DataError if weights or data do not fit.
    """
    net = elaborate(spec).test.net
    check_weights(net, weights)
    dataset, _ = open_phase(spec, net, Phase.TEST, data=data)
    return _evaluated(spec, net, dataset, weights, device, batches)


def _evaluated(
    spec: Spec,
    net: Net,
    dataset: Dataset,
    weights: Mapping[str, NDArray[Any]],
    device: str,
    batches: int | None,
) -> Evaluation:
    evaluator = Evaluator.of_weights(
        net,
        dataset.fed,
        weights,
        choose_device(device),
        lambda batch: elaborate(spec, batch=batch).test.net,
    )
    return evaluator.run(batches)


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
