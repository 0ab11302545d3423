"""Trains a spec: in a new run folder, or on from where the last run stopped."""

from __future__ import annotations

import sys
from pathlib import Path

from netspec.compiler import Spec, elaborate, read
from netspec.diagnostics import Source, UsageError
from netspec.grammar.parser import parse
from netspec.grammar.printer import to_text
from netspec.ir.fields import plain
from netspec.ir.layer import Phase
from netspec.training import loop
from netspec.training.executor import Executor
from netspec.training.experiment import Experiment, prepare
from netspec.training.loop import Listener, Outcome
from netspec.training.run import SPEC, Run, Settings, environment, latest_run


def train(
    spec: Spec,
    *,
    runs: str | Path = "runs",
    resume: bool = False,
    data: str | Path | None = None,
    device: str = "auto",
    listener: Listener | None = None,
) -> Outcome:
    """Train `spec` on its data, or on `data`, and keep everything in a folder under `runs`.

    `resume` goes on with the last run of this spec. Raises SpecErrors, UsageError or DataError if
    something does not fit, Stopped (after a checkpoint) when a signal comes, Diverged.
    """
    listener = listener or Listener()
    data = None if data is None else Path(data)
    if resume:
        run = _latest(spec, Path(runs))
        sources = {Phase(phase): where for phase, where in run.settings.data.items()}
        saved = read(str(run.spec), include_paths=spec.library.include_paths)
        experiment = prepare(saved, data=data, sources=sources)
        executor = _executor(experiment, device, listener)
    else:
        experiment = prepare(spec, data=data)
        executor = _executor(experiment, device, listener)  # may fail: then no folder is left
        run = _create(experiment, Path(runs), device)
    with run.lock():
        progress = loop.restore(executor, run, listener) if resume else None
        return loop.train(
            executor,
            experiment.batches,
            experiment.solver,
            run,
            length=experiment.length,
            resume=progress,
            listener=listener,
            model=experiment.model,
            tests=experiment.test is not None,
        )


def _executor(experiment: Experiment, device: str, listener: Listener) -> Executor:
    executor = Executor.of(experiment, device)
    for name in executor.unreached:
        listener.warned(f"no loss depends on `{name}`: it will not be trained")
    trained = {p.name for p in experiment.nets.train.net.parameters}
    for parameter in experiment.nets.test.net.parameters:
        if parameter.name not in trained:
            listener.warned(f"`{parameter.name}` is in phase TEST only: it will not be trained")
    return executor


def _latest(spec: Spec, runs: Path) -> Run:
    """The last run of this spec; refused if the spec, or what it includes, has changed since."""
    name = elaborate(spec).train.net.name
    run = latest_run(runs, name)
    if run is None:
        raise UsageError(f"there is no run of {name} under {runs} to go on with")
    for file, text in _texts(spec).items():
        if not _says(run.path / file, text):
            what = "the spec" if file == SPEC else f"the included `{file}`"
            raise UsageError(
                f"{run.path}: {what} has changed since; `netspec train {run.spec}` starts anew"
            )
    return run


def _says(file: Path, text: str) -> bool:
    """Whether a spec's file means what `text` does: layout and comments may differ."""
    if not file.is_file():
        return False
    kept = file.read_text("utf-8")
    return kept == text or parse(Source(str(file), kept)) == parse(Source(str(file), text))


def _create(experiment: Experiment, runs: Path, device: str) -> Run:
    settings = Settings(
        name=experiment.nets.train.net.name,
        command=tuple(sys.argv),
        overrides=dict(text.split("=", 1) for text in experiment.spec.sets),
        device=device,
        seed=experiment.solver.random_seed,
        data={phase.value: source for phase, source in experiment.sources.items()},
        solver=plain(experiment.solver),
        versions=environment(),
    )
    return Run.create(runs, settings, _texts(experiment.spec))


def _texts(spec: Spec) -> dict[str, str]:
    """The files that a run keeps: the spec with its overrides, and what it includes."""
    return {SPEC: to_text(spec.tree), **spec.library.included}
