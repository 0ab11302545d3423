"""Trains a spec: in a new run folder, or on from where the last run stopped."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from netspec.codegen.layout import Planner, plan
from netspec.compiler import Spec, elaborate
from netspec.diagnostics import NetspecError, Source, UsageError
from netspec.grammar.parser import parse
from netspec.grammar.printer import to_text
from netspec.ir.fields import plain
from netspec.ir.layer import Phase
from netspec.ir.override import override
from netspec.training import autotune as tuning
from netspec.training import loop, tuned
from netspec.training.caffe_snapshot import caffe_snapshots, restored
from netspec.training.checkpoint import Progress
from netspec.training.executor import Executor
from netspec.training.experiment import Experiment, idle_classes, prepare, run_spec
from netspec.training.feeding import Feeding, check_manifests, manifests
from netspec.training.loop import Listener, Outcome
from netspec.training.machine import Machine, find_machine
from netspec.training.run import SPEC, Run, Settings, environment, latest_run
from netspec.training.snapshot import Snapshot
from netspec.weights import load_weights


def train(
    spec: Spec,
    *,
    runs: str | Path = "runs",
    resume: bool | Path = False,
    data: str | Path | None = None,
    device: str = "auto",
    target: str | None = None,
    threads: int | None = None,
    recompute: Sequence[str] = (),
    tf32: bool = True,
    cuda_graphs: bool = False,
    autotune: bool = False,
    snapshots: Callable[[Experiment], Snapshot] | None = None,
    weights: Sequence[str | Path] = (),
    ignore_mismatch: bool = False,
    solverstate: str | Path | None = None,
    skip_bad: int | None = None,
    listener: Listener | None = None,
) -> Outcome:
    """Train `spec` on its data, or on `data`, and keep everything in a folder under `runs`.

    `resume` goes on with the last run of this spec, or in the folder that it names, on the target
    and with the threads that it began with unless others are given. `target` is the device's
    fastest unless given, and `threads` one for each core. `recompute` names the blocks whose values
    are computed again for the gradients instead of kept. On CUDA, `tf32` lets products round their
    factors to 10 bits, and `cuda_graphs` records each graph once and replays it. `autotune` first
    measures which formulations are the fastest here, in 30 seconds at most; a resumed run keeps
    those that it began with. `snapshots` makes what writes them where the solver has a
    `snapshot_prefix`, Caffe's files unless given. `weights` are files that a new run begins with,
    see `load_weights`, and `solverstate` one of Caffe's from which it goes on. So many
    images that cannot be read as `skip_bad` says are passed over, unless given as many as the run
    began with. A `random_seed` below 0 is taken from the clock, and stands in the run's copy of the
    spec.
    Raises SpecErrors, UsageError or DataError if something does not fit, Stopped (after a
    checkpoint) when a signal comes, Diverged.
    """
    listener = listener or Listener()
    data = None if data is None else Path(data)
    find = partial(find_machine, tf32=tf32, graphs=cuda_graphs, warn=listener.warned)
    if resume:
        run = _latest(spec, Path(runs), resume if isinstance(resume, Path) else None)
        sources = {Phase(phase): where for phase, where in run.settings.data.items()}
        saved = run_spec(run, spec.library.include_paths)
        skip_bad = run.settings.skip_bad if skip_bad is None else skip_bad
        feeding = Feeding.of(skip_bad, listener.warned, run)
        experiment = prepare(saved, data=data, sources=sources, reading=feeding.reading)
        check_manifests(run, manifests(experiment))
        machine = _machine_again(run, find, device, target, threads, listener)
        recompute = recompute or run.settings.recompute
        planner = _planner_again(run, machine, autotune, listener)
        executor = _executor(experiment, machine, planner, recompute, listener)
    else:
        feeding = Feeding.of(skip_bad or 0, listener.warned)
        experiment = prepare(spec, data=data, reading=feeding.reading)
        if experiment.solver.random_seed < 0:
            seeded = _seeded(spec, time.time_ns() % 2**31)
            experiment = prepare(seeded, data=data, reading=feeding.reading)
        machine = find(device, target=target, threads=threads)
        name = experiment.nets.train.net.name
        planner = _tuner(Path(runs), name, machine, listener) if autotune else plan
        # May fail, and then no folder is left.
        executor = _executor(experiment, machine, planner, recompute, listener)
        _start_from(
            executor, experiment, [Path(file) for file in weights], ignore_mismatch, listener
        )
        run = _create(experiment, Path(runs), device, machine, threads, recompute, skip_bad or 0)
    snapshot = None
    if experiment.solver.snapshot_prefix is not None:
        snapshot = snapshots(experiment) if snapshots else _caffes(experiment, run, listener)
    with run.lock(), feeding.during(executor, run):
        if isinstance(planner, tuning.Tuner):
            tuned.write(run.path, planner.tuned(tuned.Circumstances.here(machine)))
        progress = loop.restore(executor, run, listener) if resume else None
        if solverstate is not None:
            progress = _go_on(executor, experiment, Path(solverstate), run)
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
            snapshot=snapshot,
            complete=feeding.complete(executor),
        )


def _start_from(
    executor: Executor,
    experiment: Experiment,
    files: Sequence[Path],
    ignore_mismatch: bool,
    listener: Listener,
) -> None:
    """Put the weights of files into the executor; what they do not give stays as it was drawn."""
    if not files:
        return
    match = load_weights(files, experiment.nets.train.net, ignore_mismatch=ignore_mismatch)
    state = executor.state()
    given = {name: array for name, array in match.arrays.items() if name in state.weights}
    kept = {name: array for name, array in match.arrays.items() if name in state.statistics}
    executor.restore(
        replace(
            state,
            weights={**state.weights, **given},
            statistics={**state.statistics, **kept},
        )
    )
    listener.matched(match)


def _caffes(experiment: Experiment, run: Run, listener: Listener) -> Snapshot:
    net, solver = experiment.nets.train.net, experiment.solver
    return caffe_snapshots(net, solver, run.path, listener.warned)


def _go_on(executor: Executor, experiment: Experiment, file: Path, run: Run) -> Progress:
    """Put what a `.solverstate` says into the executor."""
    found = restored(file, experiment.nets.train.net, executor.state())
    executor.restore(found.state)
    seed = experiment.solver.random_seed
    return Progress(iteration=found.iteration, seed=seed, spec=run.spec_hash())


def _seeded(spec: Spec, seed: int) -> Spec:
    """The spec with another random_seed."""
    return replace(spec, tree=override(spec.tree, [f"solver.random_seed={seed}"]))


def _machine_again(
    run: Run,
    find: Callable[..., Machine],
    device: str,
    target: str | None,
    threads: int | None,
    listener: Listener,
) -> Machine:
    """What the run was computed on, as far as nothing else is asked for and it is at hand."""
    settings = run.settings
    if target is None and device in ("auto", settings.device):
        target = settings.target
    threads = settings.threads if threads is None else threads
    machine = find(device, target=target, threads=threads)
    found = (machine.target.name, machine.target.block)
    if settings.target is not None and found != (settings.target, settings.block):
        listener.warned(
            f"{run.path}: was computed for {_said(settings.target, settings.block)}, and goes on "
            f"for {_said(*found)}: the last bits will differ"
        )
    return machine


def _said(target: str, block: int) -> str:
    return f"{target} in blocks of {block}" if block else target


def _tuner(runs: Path, name: str, machine: Machine, listener: Listener) -> tuning.Tuner:
    """For a new run; what the last run of this net has measured need not be measured again."""
    found = None
    with suppress(NetspecError):  # a damaged run is no reason not to start another
        if last := latest_run(runs, name):
            here = tuned.Circumstances.here(machine)
            found = tuned.still_true(last.path, here, listener.warned)
    known = found.operators if found else None
    return tuning.Tuner(machine.device, known, told=listener.tuning)


def _planner_again(run: Run, machine: Machine, autotune: bool, listener: Listener) -> Planner:
    """For a run that goes on: the choices that it has, unless others are asked for."""
    here = tuned.Circumstances.here(machine)
    if not autotune:
        return partial(plan, choose=tuned.kept(run.path, here, listener.warned))
    if found := tuned.still_true(run.path, here, listener.warned):
        return partial(plan, choose=found.choices)
    listener.warned(f"{run.path}: what is measured now may round otherwise than the run did so far")
    return tuning.Tuner(machine.device, told=listener.tuning)


def _executor(
    experiment: Experiment,
    machine: Machine,
    planner: Planner,
    recompute: Sequence[str],
    listener: Listener,
) -> Executor:
    executor = Executor.of(experiment, machine, planner, recompute)
    if isinstance(planner, tuning.Tuner):
        listener.tuned(len(planner.operators), planner.changed, len(planner.left))
    for note in idle_classes(experiment.train, experiment.nets.train.net):
        listener.warned(note)
    for name in executor.unreached:
        listener.warned(f"no loss depends on `{name}`: it will not be trained")
    trained = {p.name for p in experiment.nets.train.net.parameters}
    for parameter in experiment.nets.test.net.parameters:
        if parameter.name not in trained:
            listener.warned(f"`{parameter.name}` is in phase TEST only: it will not be trained")
    return executor


def _latest(spec: Spec, runs: Path, folder: Path | None = None) -> Run:
    """The last run of this spec, or that of a folder.

    Refused if the spec, or what it includes, has changed since.
    """
    net = elaborate(spec).train.net
    run = latest_run(runs, net.name) if folder is None else Run.open(folder)
    if run is None:
        raise UsageError(f"there is no run of {net.name} under {runs} to go on with")
    if net.solver is not None and net.solver.random_seed < 0:
        spec = _seeded(spec, run.settings.seed)
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


def _create(
    experiment: Experiment,
    runs: Path,
    device: str,
    machine: Machine,
    threads: int | None,
    recompute: Sequence[str],
    skip_bad: int,
) -> Run:
    settings = Settings(
        name=experiment.nets.train.net.name,
        command=tuple(sys.argv),
        overrides=dict(text.split("=", 1) for text in experiment.spec.sets),
        device=device,
        target=machine.target.name,
        block=machine.target.block,
        threads=threads,
        recompute=tuple(recompute),
        seed=experiment.solver.random_seed,
        folder=str(experiment.spec.base.absolute()),
        data={phase.value: source for phase, source in experiment.sources.items()},
        manifests=manifests(experiment),
        skip_bad=skip_bad,
        solver=plain(experiment.solver),
        versions=environment(),
    )
    return Run.create(runs, settings, _texts(experiment.spec))


def _texts(spec: Spec) -> dict[str, str]:
    """The files that a run keeps: the spec with its overrides, and what it includes."""
    return {SPEC: to_text(spec.tree), **spec.library.included}
