"""Joins to a training all that writes down how it went: events, TensorBoard's curves, the page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from netspec.training.due import Due
from netspec.training.execution.executor import Executor
from netspec.training.listeners import Listeners
from netspec.training.logs.appended import Appended
from netspec.training.logs.events import Resumed, Started, read_events
from netspec.training.logs.history import History
from netspec.training.logs.norms import Norms
from netspec.training.logs.recorder import Recorder
from netspec.training.logs.report import metric_names
from netspec.training.logs.reporter import Reporter
from netspec.training.logs.tensorboard import TensorBoard
from netspec.training.runs.checkpoint import Progress
from netspec.training.runs.run import Run
from netspec.training.setup.experiment import Experiment
from netspec.training.testing.predicting import judge


@contextmanager
def recording(
    run: Run,
    experiment: Experiment,
    executor: Executor,
    progress: Progress | None,
    listeners: Listeners,
    *,
    resumed: bool,
) -> Iterator[None]:
    """Within, a locked run's training is written down, and how it ended; `progress` is where it is.

    What does not fit on the disk costs a warning, and the training goes on.
    """
    assert run.locked
    since = progress or Progress()
    before, size = read_events(run.events, since)
    batches = experiment.batches
    started = partial(
        Started,
        net=run.settings.name,
        batch=batches.batch_size,
        samples=batches.samples,
    )
    page = Reporter(
        run,
        experiment,
        History(metric_names(experiment.nets.test.net), before),
        weights=executor.held.net,
        judge=partial(judge, experiment, device=executor.device),
        warn=listeners.warned,
    )
    recorder = Recorder(
        Appended(run.events, size, listeners.warned),
        lambda iteration: iteration * batches.batch_size / batches.samples,
        Resumed if resumed else started,
        [TensorBoard(run.path, listeners.warned).hear, page.hear],
        iteration=since.iteration,
    )
    listeners.join(recorder)
    due = Due(experiment.solver, experiment.length, batches.epoch)
    listeners.join(Norms(executor.held, due.test, recorder.measured))
    try:
        yield
    except BaseException as fault:
        recorder.ended(fault)
        raise
