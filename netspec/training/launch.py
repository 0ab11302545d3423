"""Trains a spec: in a new run folder, or on from where the last run stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from netspec.compiler import Spec
from netspec.data.split import Fold
from netspec.diagnostics import UsageError
from netspec.training import loop
from netspec.training.batch_size import memory_explained, shortage
from netspec.training.beginning import create_run, go_on_from, start_from
from netspec.training.execution import autotune as tuning
from netspec.training.execution import tuned
from netspec.training.execution.diagnosis import Diagnosis
from netspec.training.execution.executor import Executor
from netspec.training.execution.machine import find_machine
from netspec.training.feeding import Feeding
from netspec.training.listener import Listener
from netspec.training.listeners import Listeners
from netspec.training.logs.records import recording
from netspec.training.outcome import Outcome
from netspec.training.ready import Ready, Wanted, anew, going_on
from netspec.training.restoring import restore
from netspec.training.resumption import run_again
from netspec.training.runs.caffe_snapshot import caffe_snapshots
from netspec.training.runs.checkpoint import Progress
from netspec.training.runs.run import Run
from netspec.training.runs.snapshot import Snapshot
from netspec.training.setup.amendments import Amendments, rate_note
from netspec.training.setup.doubts import doubts
from netspec.training.setup.experiment import Experiment
from netspec.training.stopping import check_length, check_tested
from netspec.training.unbegun import discarded_unless_begun


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
    cuda_graphs: bool | Literal["auto"] = "auto",
    autotune: bool = False,
    snapshots: Callable[[Experiment], Snapshot] | None = None,
    weights: Sequence[str | Path] = (),
    ignore_mismatch: bool = False,
    solverstate: str | Path | None = None,
    fold: Fold | None = None,
    restarts: int = 0,
    epochs: int | str | None = None,
    max_time: float | None = None,
    batch: int | Literal["auto"] | None = None,
    precision: Literal["FP32", "FP16"] | None = None,
    force: bool = False,
    skip_bad: int | None = None,
    listener: Listener | None = None,
) -> Outcome:
    """Train `spec` on its data, or on `data`, and keep everything in a folder under `runs`.

    `resume` goes on with the last run of this spec, or in the folder that it names, on the target
    and with the threads that it began with unless others are given. `target` is the device's
    fastest unless given, and `threads` one for each core. `recompute` names the blocks whose values
    are computed again for the gradients instead of kept. On CUDA, `tf32` lets products round their
    factors to 10 bits, and `cuda_graphs` records each graph once and replays it; `"auto"` does so
    where it can be done, if the first replays give what plain runs give. `autotune` first
    measures which formulations are the fastest here, in 30 seconds at most; a resumed run keeps
    those that it began with. `snapshots` makes what writes them where the solver has a
    `snapshot_prefix`, Caffe's files unless given. `weights` are files that a new run begins with,
    see `load_weights`, and `solverstate` one of Caffe's from which it goes on. A new run of a spec
    with `val` leaves out `fold` instead of that share, and of `restarts` with several seeds it
    remembers to be one: neither is the last run that `resume` goes on with. A `random_seed`
    below 0 is taken from the clock, and stands in the run's copy of the spec.

    `epochs` and `max_time` (seconds) stand for the solver's fields; a run that goes on takes them,
    too, `"+10"` epochs beyond its length. `batch` stands for the training's batch_size; `"auto"` is
    what memory holds, see `chosen_batch`. `precision` stands for the solver's field. A run whose
    spec has changed goes on with it by `force`, with the weights that fit. Of images that cannot be
    read `skip_bad` are passed over: none unless given, and in a run that goes on as many as it
    began with.

    Raises SpecErrors, UsageError or DataError if something does not fit, Stopped (after a
    checkpoint) when a signal comes, Diverged.
    """
    if resume and solverstate is not None:
        raise UsageError("resume and solverstate each say how the training begins")
    listener = Listeners(listener or Listener())
    wanted = Wanted(
        Path(runs),
        None if data is None else Path(data),
        Amendments(None if epochs is None else str(epochs), max_time, batch, precision),
        partial(find_machine, tf32=tf32, graphs=cuda_graphs, warn=listener.warned),
        device,
        target,
        threads,
        recompute,
        autotune,
        listener,
        Feeding.of(skip_bad or 0, listener.warned),
        fold,
    )
    if resume:
        folder = resume if isinstance(resume, Path) else None
        again = run_again(spec, Path(runs), folder, force=force)
        ready = going_on(replace(wanted, feeding=wanted.feeding.again(again.run, skip_bad)), again)
    else:
        ready = anew(wanted, spec)
    experiment, machine = ready.experiment, ready.machine
    check_tested(experiment.solver, experiment.test is not None, spec.path)
    if short := shortage(experiment, machine, ready.free):
        listener.warned(short)
    for doubt in doubts(experiment):
        listener.warned(doubt)
    begun = None
    with memory_explained(experiment, machine, ready.free):
        # May fail, and then no folder is left.
        executor = _executor(ready, listener)
        if ready.again is None:
            files = [Path(file) for file in weights]
            start_from(executor, experiment, files, ignore_mismatch, listener)
            if solverstate is not None:
                begun = go_on_from(executor, experiment, Path(solverstate))
            run = create_run(
                experiment, Path(runs), device, machine, threads, recompute, ready.shards,
                skip_bad or 0, ready.given, restarts,
            )  # fmt: skip
        else:
            run = ready.again.run
        snapshot = None
        if experiment.solver.snapshot_prefix is not None:
            snapshot = snapshots(experiment) if snapshots else _caffes(experiment, run, listener)
        fate = nullcontext() if ready.again else discarded_unless_begun(run, listener)
        with run.lock(), fate, ready.feeding.during(executor, run):
            progress = _state(ready, run, executor, begun, listener)
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
                    diagnose=Diagnosis(
                        experiment, machine, ready.planner, ready.recompute, executor
                    ),
                    keep_start=bool(weights or solverstate),
                    complete=ready.feeding.complete(executor),
                )


def _state(
    ready: Ready,
    run: Run,
    executor: Executor,
    begun: int | None,
    listener: Listener,
) -> Progress | None:
    """Where the locked run stands, its state in the executor; None at its beginning.

    A new one has `begun` iterations from elsewhere, if any.
    """
    if isinstance(ready.planner, tuning.Tuner):
        tuned.write(run.path, ready.planner.tuned(tuned.Circumstances.here(ready.machine)))
    experiment, again = ready.experiment, ready.again
    if again is None:
        seed = experiment.solver.random_seed
        return None if begun is None else Progress(iteration=begun, seed=seed, spec=run.spec_hash())
    if again.texts is not None:  # the run is to know the texts that its checkpoints are of
        again.keep(experiment, ready.shards, ready.given)
    progress = restore(executor, run, listener)
    if progress is not None:
        check_length(progress.iteration, experiment.length, run.path)
        if again.texts is not None and progress.iteration == experiment.length:
            listener.noted("all iterations were done before the spec changed: --epochs +N goes on")
    if again.texts is None:  # a length that is refused is not the run's
        again.keep(experiment, ready.shards, ready.given)
    if progress is not None and ready.before is not None:
        note = rate_note(ready.before, experiment, progress)
        if note:
            listener.noted(note)
    return progress


def _caffes(experiment: Experiment, run: Run, listener: Listener) -> Snapshot:
    net, solver = experiment.nets.train.net, experiment.solver
    return caffe_snapshots(net, solver, run.path, listener.warned)


def _executor(ready: Ready, listener: Listener) -> Executor:
    experiment, planner = ready.experiment, ready.planner
    executor = Executor.of(
        experiment, ready.machine, planner, ready.recompute, listener.warned, ready.shards
    )
    if isinstance(planner, tuning.Tuner):
        listener.tuned(len(planner.operators), planner.changed, len(planner.left))
    for name in executor.unreached:
        listener.warned(f"no loss depends on `{name}`: it will not be trained")
    trained = {p.name for p in experiment.nets.train.net.parameters}
    for parameter in experiment.nets.test.net.parameters:
        if parameter.name not in trained:
            listener.warned(f"`{parameter.name}` is in phase TEST only: it will not be trained")
    return executor
