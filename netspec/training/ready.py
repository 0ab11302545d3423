"""All that a training needs before it takes memory: of a new run, or of one that goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from netspec.codegen.layout import Planner, plan
from netspec.compiler import Spec
from netspec.data.split import Fold
from netspec.diagnostics import DataError, UsageError
from netspec.runtime.free import free_memory
from netspec.training.batch_size import chosen_batch
from netspec.training.beginning import new_tuner, seeded
from netspec.training.execution.machine import Machine
from netspec.training.execution.scaling import suited_machine
from netspec.training.execution.sharded import shards_for
from netspec.training.feeding import Feeding, check_manifests, manifests
from netspec.training.listener import Listener
from netspec.training.resumption import Again, machine_again, planner_again
from netspec.training.setup.amendments import Amendments, amended, batch_set
from netspec.training.setup.experiment import Experiment, prepare
from netspec.training.setup.fingerprint import check_fingerprint, tested_note
from netspec.training.setup.measured import NOTHING, Measured
from netspec.training.setup.validation import check_held_out


@dataclass(frozen=True)
class Wanted:
    """What is asked for beside the spec."""

    runs: Path
    data: Path | None
    amendments: Amendments
    find: Callable[..., Machine]
    device: str
    target: str | None
    threads: int | None
    recompute: Sequence[str]
    autotune: bool
    listener: Listener
    feeding: Feeding
    fold: Fold | None = None
    """Which part of the data a new run holds out."""


@dataclass(frozen=True)
class Ready:
    """All that a training needs before it takes memory."""

    experiment: Experiment
    machine: Machine
    planner: Planner
    recompute: Sequence[str]
    shards: int
    """In how many parts a batch is computed."""
    given: Sequence[str]
    """What options set over the spec, as `--set` has it."""
    free: int | None
    """The device's memory, in bytes."""
    feeding: Feeding
    again: Again | None = None
    before: Experiment | None = None
    """What goes on, as it was until now."""


def anew(wanted: Wanted, spec: Spec) -> Ready:
    """A new run."""
    prepared = partial(
        prepare, data=wanted.data, fold=wanted.fold, runs=wanted.runs,
        reading=wanted.feeding.reading,
    )  # fmt: skip
    experiment = prepared(spec)
    if experiment.solver.random_seed < 0:
        spec = seeded(spec, time.time_ns() % 2**31)
        experiment = prepared(spec)  # measured anew: what is held out hangs on the seed
    given, listener = wanted.amendments.of_new(experiment), wanted.listener
    experiment = amended(experiment, given)
    machine = wanted.find(wanted.device, target=wanted.target, threads=wanted.threads)
    machine = suited_machine(machine, experiment.solver, listener.noted)
    free = free_memory(machine.device)
    if wanted.amendments.batch == "auto":
        choice = chosen_batch(experiment, machine, free)
        listener.noted(f"batch {choice.batch:,}: {choice.why}")
        given.append(batch_set(choice.batch))
        experiment = amended(experiment, given[-1:])
    net, shards = experiment.nets.train.net, _shards(experiment, machine)
    tuner = partial(new_tuner, wanted.runs, net.name, machine, shards, listener)
    planner = tuner() if wanted.autotune else plan
    return Ready(
        experiment, machine, planner, wanted.recompute, shards, given, free, wanted.feeding
    )


def going_on(wanted: Wanted, again: Again) -> Ready:
    """A run that goes on."""
    parts, kept = again.run.settings.fold, Measured.read(again.run.path) or NOTHING
    before = prepare(
        again.spec, data=wanted.data, sources=again.sources, fold=Fold(*parts) if parts else None,
        measured=kept, reading=wanted.feeding.reading,
    )  # fmt: skip
    _check_data(again, before, wanted.listener.warned)
    if note := tested_note(again.run, before.test):
        wanted.listener.warned(note)
    for gone in again.overruled:
        wanted.listener.noted(f"{gone} of an earlier option gives way to the edited spec")
    given = wanted.amendments.of_run(before, again.run)
    machine = machine_again(
        again.run, wanted.find, wanted.device, wanted.target, wanted.threads, wanted.listener
    )
    experiment = amended(before, given)
    machine = suited_machine(machine, experiment.solver, wanted.listener.noted)
    # Another spec has a batch and layers of its own.
    kept_shards = again.run.settings.shards if again.texts is None else None
    shards = _shards(experiment, machine, kept_shards)
    planner = planner_again(again.run, machine, shards, wanted.autotune, wanted.listener)
    recompute = wanted.recompute or again.run.settings.recompute
    free = free_memory(machine.device)
    return Ready(
        experiment, machine, planner, recompute, shards, given, free, wanted.feeding, again, before
    )


def _shards(experiment: Experiment, machine: Machine, wanted: int | None = None) -> int:
    return shards_for(experiment.nets.train.net, machine.target, wanted)


def _check_data(again: Again, before: Experiment, warn: Callable[[str], None]) -> None:
    """Refuse other samples than a run began with, unless it is forced to go on with them."""
    try:
        check_held_out(again.run, before.held_out)
        check_manifests(again.run, manifests(before))
        check_fingerprint(again.run, before.train)
    except (DataError, UsageError) as fault:
        if not again.forced:
            raise type(fault)(f"{fault}; --force goes on with them") from None
        warn(str(fault))
