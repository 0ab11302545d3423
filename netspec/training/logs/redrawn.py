"""A run's page from what lies in its folder, with the weights that are there now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from netspec.compiler import Elaborated, Spec, elaborate
from netspec.diagnostics import NetspecError, UsageError
from netspec.ir.layer import Phase
from netspec.report.summary import summarise
from netspec.runtime.device import choose_device
from netspec.training.logs.events import read_events
from netspec.training.logs.history import History
from netspec.training.logs.judged import Judged
from netspec.training.logs.report import RunPage, metric_names
from netspec.training.runs.run import Run
from netspec.training.runs.trained import trained_weights
from netspec.training.setup.experiment import run_spec
from netspec.training.setup.opening import open_tested
from netspec.training.testing.left_out import without_bad
from netspec.training.testing.predicting import Judge


def redrawn(run: Run, *, data: Path | None, device: str, warn: Callable[[str], None]) -> RunPage:
    """The page of a run, trained or in training; UsageError if it tells of no events.

    Where its weights or its test data are not at hand, a warning says so and the page leaves out
    what they would show; `data` given instead must be there.
    """
    events, _ = read_events(run.events)
    if not events:
        raise UsageError(f"{run.path}: has no events, of which a page is made; log.csv may help")
    spec = run_spec(run)
    nets = elaborate(spec)
    net = nets.test.net
    weights: Mapping[str, NDArray[Any]] = {}
    judged = None
    try:
        weights = trained_weights(run, net)
        judged = _judged(run, spec, nets, weights, events[-1].iteration, data, device, warn)
    except NetspecError as fault:
        if data is not None:
            raise
        warn(f"{fault}; the page leaves out what it would show")
    history = History(metric_names(net), events)
    summary = summarise(nets, Phase.TEST, exact=False)
    return RunPage(run, history, net, summary, weights, judged)


def _judged(
    run: Run,
    spec: Spec,
    nets: Elaborated,
    weights: Mapping[str, NDArray[Any]],
    iteration: int,
    data: Path | None,
    device: str,
    warn: Callable[[str], None],
) -> Judged | None:
    net = nets.test.net
    if net.data is None:
        return None
    opened = partial(open_tested, run, spec, nets, data=data)
    dataset = without_bad(run, net, lambda reading: opened(reading=reading), warn)
    judge = Judge(
        net,
        dataset,
        choose_device(device),
        lambda batch: elaborate(spec, batch=batch).test.net,
    )
    return Judged.of(judge.predictions(weights), iteration, net, dataset)
