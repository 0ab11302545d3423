"""A new run: the folder that it gets, and the state that it begins with."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from netspec.compiler import Spec
from netspec.diagnostics import NetspecError
from netspec.grammar.printer import to_text
from netspec.ir.fields import plain
from netspec.ir.override import override
from netspec.training.execution import autotune as tuning
from netspec.training.execution import tuned
from netspec.training.execution.executor import Executor
from netspec.training.execution.machine import Machine
from netspec.training.execution.sharded import share_of
from netspec.training.feeding import manifests
from netspec.training.listener import Listener
from netspec.training.runs.caffe_snapshot import restored
from netspec.training.runs.run import SPEC, Run, latest_run
from netspec.training.runs.settings import Settings, environment
from netspec.training.setup.experiment import Experiment
from netspec.training.setup.fingerprint import fingerprint
from netspec.training.stopping import check_length
from netspec.weights import load_weights


def start_from(
    executor: Executor,
    experiment: Experiment,
    files: Sequence[Path],
    ignore_mismatch: bool,
    listener: Listener,
) -> None:
    """Put the weights of files into the executor; what they do not give stays as it was drawn."""
    if not files:
        if experiment.solver.freeze:
            listener.warned("`freeze` without `--weights`: what is frozen stays as it is drawn")
        return
    net = experiment.nets.train.net
    match = load_weights(files, net, ignore_mismatch=ignore_mismatch, partial=True)
    state = executor.state()
    given = {name: array for name, array in match.arrays.items() if name in state.weights}
    kept = {name: array for name, array in match.arrays.items() if name in state.statistics}
    executor.restore(
        replace(
            state,
            weights={**state.weights, **given},
            statistics={**state.statistics, **kept},
            averages={},
        )
    )
    listener.matched(match)


def go_on_from(executor: Executor, experiment: Experiment, file: Path) -> int:
    """Put what a `.solverstate` says into the executor; the iterations that are done by then."""
    found = restored(file, experiment.nets.train.net, executor.state())
    check_length(found.iteration, experiment.length, file)
    executor.restore(found.state)
    return found.iteration


def seeded(spec: Spec, seed: int) -> Spec:
    """The spec with another random_seed."""
    return replace(spec, tree=override(spec.tree, [f"solver.random_seed={seed}"]))


def new_tuner(
    runs: Path, name: str, machine: Machine, shards: int, listener: Listener
) -> tuning.Tuner:
    """For a new run; what the last run of this net has measured need not be measured again."""
    found = None
    with suppress(NetspecError):  # a damaged run is no reason not to start another
        if last := latest_run(runs, name):
            here = tuned.Circumstances.here(machine)
            found = tuned.still_true(last.path, here, listener.warned)
    known = found.operators if found else None
    return tuning.Tuner(share_of(machine.device, shards), known, told=listener.tuning)


def create_run(
    experiment: Experiment,
    runs: Path,
    device: str,
    machine: Machine,
    threads: int | None,
    recompute: Sequence[str],
    shards: int,
    skip_bad: int,
    given: Sequence[str] = (),
    restarts: int = 0,
) -> Run:
    """The folder of a new run; `given` is what options set over the spec."""
    settings = Settings(
        name=experiment.nets.train.net.name,
        command=tuple(sys.argv),
        overrides=dict(text.split("=", 1) for text in experiment.spec.sets),
        device=device,
        target=machine.target.name,
        block=machine.target.block,
        threads=threads,
        recompute=tuple(recompute),
        shards=shards,
        seed=experiment.solver.random_seed,
        fold=(experiment.fold.number, experiment.fold.count) if experiment.fold else None,
        restarts=restarts,
        held_out=experiment.held_out,
        samples=fingerprint(experiment.train),
        tested=fingerprint(experiment.test),
        classes=experiment.classes,
        folder=str(experiment.spec.base.absolute()),
        data={phase.value: source for phase, source in experiment.sources.items()},
        manifests=manifests(experiment),
        skip_bad=skip_bad,
        solver=plain(experiment.solver),
        versions=environment(),
        given=tuple(given),
    )
    return Run.create(runs, settings, run_texts(experiment.spec), experiment.measured.write)


def run_texts(spec: Spec) -> dict[str, str]:
    """The files that a run keeps: the spec with its overrides, and what it includes."""
    return {SPEC: to_text(spec.tree), **spec.library.included}


def texts_in(run: Run, spec: Spec) -> dict[str, str]:
    """What the run would keep of the spec, with what options set when it began."""
    return run_texts(replace(spec, tree=override(spec.tree, run.settings.given)))
