"""`netspec train`: a spec and its data become a run folder with a trained network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from netspec.cli import options
from netspec.compiler import Spec, read
from netspec.diagnostics import UsageError
from netspec.grammar.printer import to_text
from netspec.ir.layer import Phase

if TYPE_CHECKING:
    from netspec.training.experiment import Experiment
    from netspec.training.loop import Listener, Outcome
    from netspec.training.run import Run


@click.command("train")
@options.SPEC
@click.option("--resume", is_flag=True, help="Go on with the last run of this spec.")
@click.option(
    "--runs", type=click.Path(file_okay=False, path_type=Path), default=Path("runs"),
    show_default=True, help="Where run folders go.",
)  # fmt: skip
@options.SETS
@options.INCLUDES
@options.DATA
@options.DEVICE
@options.JSON
def command(
    spec: str,
    resume: bool,
    runs: Path,
    sets: tuple[str, ...],
    include_paths: tuple[Path, ...],
    data: Path | None,
    device: str,
    as_json: bool,
) -> int:
    """Train SPEC on its data, test every epoch, keep everything in a run folder.

    SIGINT and SIGTERM finish the step, save, and exit 75: `--resume` goes on from there.
    """
    source = read(spec, sets=sets, include_paths=include_paths)
    from netspec.cli.progress import JsonLines, Progress

    listener = JsonLines() if as_json else Progress(options.console(stderr=True))
    _train(source, resume, runs, sets, data, device, listener)
    return 0


def _train(
    spec: Spec,
    resume: bool,
    runs: Path,
    sets: tuple[str, ...],
    data: Path | None,
    device: str,
    listener: Listener,
) -> Outcome:
    from netspec.training.executor import Executor
    from netspec.training.experiment import prepare
    from netspec.training.loop import restore, train

    run = _latest(spec, runs) if resume else None
    if run is None:
        experiment = prepare(spec, data=data)
        run = _new_run(experiment, runs, sets, device)
    else:
        sources = {Phase(phase): where for phase, where in run.settings.data.items()}
        saved = read(str(run.spec), include_paths=spec.library.include_paths)
        experiment = prepare(saved, data=data, sources=sources)
    with run.lock():
        executor = Executor.of(experiment, device)
        for name in executor.unreached:
            listener.warned(f"no loss depends on `{name}`: it will not be trained")
        progress = restore(executor, run, listener) if resume else None
        return train(
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


def _latest(spec: Spec, runs: Path) -> Run:
    """The last run of this spec; refused if the spec has changed since."""
    from netspec.compiler import elaborate
    from netspec.training.run import latest_run

    name = elaborate(spec).train.net.name
    run = latest_run(runs, name)
    if run is None:
        raise UsageError(f"there is no run of {name} under {runs} to go on with")
    if run.spec.read_text("utf-8") != to_text(spec.tree):
        raise UsageError(
            f"{run.path}: the spec has changed since; `netspec train {run.spec}` starts anew"
        )
    return run


def _new_run(experiment: Experiment, runs: Path, sets: tuple[str, ...], device: str) -> Run:
    from netspec.ir.fields import plain
    from netspec.training.run import SPEC, Run, Settings, environment

    spec = experiment.spec
    settings = Settings(
        name=experiment.nets.train.net.name,
        command=tuple(sys.argv),
        overrides=dict(text.split("=", 1) for text in sets),
        device=device,
        seed=experiment.solver.random_seed,
        data={phase.value: source for phase, source in experiment.sources.items()},
        solver=plain(experiment.solver),
        versions=environment(),
    )
    files = {SPEC: to_text(spec.tree), **spec.library.included}
    return Run.create(runs, settings, files)
