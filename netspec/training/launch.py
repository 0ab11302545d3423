"""Trains a spec: in a new run folder, or on from where the last run stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from netspec.codegen.layout import Planner, plan
from netspec.compiler import Spec
from netspec.ir.layer import Phase
from netspec.training import autotune as tuning
from netspec.training import loop, tuned
from netspec.training.beginning import create_run, go_on_from, new_tuner, seeded, start_from
from netspec.training.caffe_snapshot import caffe_snapshots
from netspec.training.diagnosis import Diagnosis
from netspec.training.executor import Executor
from netspec.training.experiment import Experiment, idle_classes, prepare, run_spec
from netspec.training.feeding import Feeding, check_manifests, manifests
from netspec.training.listener import Listener
from netspec.training.listeners import Listeners
from netspec.training.machine import Machine, find_machine
from netspec.training.outcome import Outcome
from netspec.training.records import recording
from netspec.training.restoring import restore
from netspec.training.resumption import machine_again, planner_again, run_again
from netspec.training.run import Run
from netspec.training.snapshot import Snapshot


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
    see `load_weights`, and `solverstate` one of Caffe's from which it goes on. A `random_seed`
    below 0 is taken from the clock, and stands in the run's copy of the spec.
    Raises SpecErrors, UsageError or DataError if something does not fit, Stopped (after a
    checkpoint) when a signal comes, Diverged.
    """
    listener = Listeners(listener or Listener())
    data = None if data is None else Path(data)
    find = partial(find_machine, tf32=tf32, graphs=cuda_graphs, warn=listener.warned)
    if resume:
        run = run_again(spec, Path(runs), resume if isinstance(resume, Path) else None)
        sources = {Phase(phase): where for phase, where in run.settings.data.items()}
        saved = run_spec(run, spec.library.include_paths)
        skip_bad = run.settings.skip_bad if skip_bad is None else skip_bad
        feeding = Feeding.of(skip_bad, listener.warned, run)
        experiment = prepare(saved, data=data, sources=sources, reading=feeding.reading)
        check_manifests(run, manifests(experiment))
        machine = machine_again(run, find, device, target, threads, listener)
        recompute = recompute or run.settings.recompute
        planner = planner_again(run, machine, autotune, listener)
        executor = _executor(experiment, machine, planner, recompute, listener)
    else:
        feeding = Feeding.of(skip_bad or 0, listener.warned)
        experiment = prepare(spec, data=data, reading=feeding.reading)
        if experiment.solver.random_seed < 0:
            spec = seeded(spec, time.time_ns() % 2**31)
            experiment = prepare(spec, data=data, reading=feeding.reading)
        machine = find(device, target=target, threads=threads)
        name = experiment.nets.train.net.name
        planner = new_tuner(Path(runs), name, machine, listener) if autotune else plan
        # May fail, and then no folder is left.
        executor = _executor(experiment, machine, planner, recompute, listener)
        start_from(
            executor, experiment, [Path(file) for file in weights], ignore_mismatch, listener
        )
        run = create_run(experiment, Path(runs), device, machine, threads, recompute, skip_bad or 0)
    snapshot = None
    if experiment.solver.snapshot_prefix is not None:
        snapshot = snapshots(experiment) if snapshots else _caffes(experiment, run, listener)
    with run.lock(), feeding.during(executor, run):
        if isinstance(planner, tuning.Tuner):
            tuned.write(run.path, planner.tuned(tuned.Circumstances.here(machine)))
        progress = restore(executor, run, listener) if resume else None
        if solverstate is not None:
            progress = go_on_from(executor, experiment, Path(solverstate), run)
        with recording(run, experiment, executor, progress, listener, resumed=bool(resume)):
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
                diagnose=Diagnosis(experiment, machine, planner, recompute, executor),
                keep_start=bool(weights or solverstate),
                complete=feeding.complete(executor),
            )


def _caffes(experiment: Experiment, run: Run, listener: Listener) -> Snapshot:
    net, solver = experiment.nets.train.net, experiment.solver
    return caffe_snapshots(net, solver, run.path, listener.warned)


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
