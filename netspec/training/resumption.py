"""A run that is gone on with: which one it is, and what it was computed on."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from netspec.codegen.layout import Planner, plan
from netspec.compiler import Spec, elaborate, read
from netspec.diagnostics import UsageError, printable
from netspec.ir.fields import plain
from netspec.ir.layer import Phase
from netspec.ir.override import override
from netspec.training.beginning import run_texts, seeded
from netspec.training.execution import autotune as tuning
from netspec.training.execution import tuned
from netspec.training.execution.machine import Machine
from netspec.training.execution.sharded import share_of
from netspec.training.feeding import manifests
from netspec.training.listener import Listener
from netspec.training.runs.changed import changed_texts, difference, shortened
from netspec.training.runs.run import SPEC, Run, runs_of
from netspec.training.setup.amendments import joined, overruled
from netspec.training.setup.experiment import Experiment, run_spec
from netspec.training.setup.fingerprint import fingerprint
from netspec.training.trials.folds import folded


@dataclass(frozen=True)
class Again:
    """A run that is gone on with, and the spec with which that is."""

    run: Run
    spec: Spec
    texts: Mapping[str, str] | None = None
    """The texts that take the place of the run's, if it is made to go on with others."""
    overruled: tuple[str, ...] = ()
    """What options amended, where these texts say something new; it no longer holds."""
    forced: bool = False
    """Whether it goes on though something has changed since."""

    @property
    def sources(self) -> dict[Phase, str]:
        """Where the samples came from so far; nothing for a spec that may say otherwise."""
        kept = {} if self.texts is not None else self.run.settings.data
        return {Phase(phase): where for phase, where in kept.items()}

    def keep(self, experiment: Experiment, shards: int, sets: Sequence[str]) -> None:
        """Let the locked run remember what is other than before."""
        run, settings = self.run, self.run.settings
        places = {phase.value: source for phase, source in experiment.sources.items()}
        change: dict[str, Any] = {
            "amended": joined(_standing(run, self.overruled), sets),
            "data": {**settings.data, **places},
            "shards": shards,
            "tested": fingerprint(experiment.test) or settings.tested,
        }
        if self.forced:
            change |= {
                "manifests": manifests(experiment),
                "samples": fingerprint(experiment.train),
                "held_out": experiment.held_out,
                "classes": experiment.classes,
            }
        if self.texts is not None:
            change |= {
                "seed": experiment.solver.random_seed,
                "folder": str(self.spec.base.absolute()),
                "data": places,
                "overrides": dict(text.split("=", 1) for text in self.spec.sets),
            }
        if sets or self.texts is not None:
            change["solver"] = plain(experiment.solver)
        settings = settings.model_copy(update=change)
        if self.texts is not None:
            run.change(self.texts, difference(run, self.texts), settings)
        elif settings != run.settings:
            run.amend(settings)


def run_again(spec: Spec, runs: Path, folder: Path | None = None, *, force: bool = False) -> Again:
    """The last run of this spec that is none of several trials, or that of a folder.

    Refused, with the difference, if the spec, or what it includes, has changed since, unless the
    run is forced to go on with it.
    """
    net = elaborate(spec).train.net
    run = _last(runs, net.name) if folder is None else Run.open(folder)
    drawn = net.solver is not None and net.solver.random_seed < 0
    if drawn or run.settings.restarts:
        spec = seeded(spec, run.settings.seed)
    if run.settings.fold is not None:
        spec = folded(spec, run.settings.fold[1])
    spec = replace(spec, tree=override(spec.tree, run.settings.given))
    texts = run_texts(spec)
    changed = changed_texts(run, texts)
    if not changed:
        return Again(run, run_spec(run, spec.library.include_paths), forced=force)
    if force:
        gone = _overruled(run, spec)
        later = override(spec.tree, _standing(run, gone))
        return Again(run, replace(spec, tree=later), texts, gone, forced=True)
    what = "the spec" if changed[0] == SPEC else f"the included `{changed[0]}`"
    raise UsageError(
        f"{run.path}: {what} has changed since; `netspec train {run.spec}` starts anew, and "
        f"--force goes on with it where weights fit{_begun_with(run, spec)}\n"
        f"{shortened(difference(run, texts))}"
    )


def _last(runs: Path, name: str) -> Run:
    """The last run of a net that stands for itself; UsageError if there is none."""
    trial = None
    for run in runs_of(runs, name):
        if run.settings.fold is None and not run.settings.restarts:
            return run
        trial = trial or run
    message = f"there is no run of {name} under {runs} to go on with"
    if trial is not None:
        fold, count = trial.settings.fold, trial.settings.restarts
        option = f"--restarts {count}" if fold is None else f"--folds {fold[1]}"
        message += f" alone: {option} --resume goes on with all, --snapshot {trial.path} with one"
    raise UsageError(printable(message))


def _overruled(run: Run, spec: Spec) -> tuple[str, ...]:
    """What options amended, where the spec no longer says what the run's own does."""
    if not run.settings.amended:
        return ()
    own = read(str(run.spec), include_paths=spec.library.include_paths)
    before, after = (elaborate(one).train.net.solver for one in (own, spec))
    return overruled(run.settings.amended, before, after) if before and after else ()


def _standing(run: Run, overruled: Sequence[str]) -> list[str]:
    return [text for text in run.settings.amended if text not in overruled]


def _begun_with(run: Run, spec: Spec) -> str:
    """What `--set` gave at the beginning, where it is not given again."""
    began = [f"{path}={value}" for path, value in run.settings.overrides.items()]
    if set(began) <= set(spec.sets):
        return ""
    return f"; it began with {' '.join(f'--set {shlex.quote(text)}' for text in began)}"


def machine_again(
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


def planner_again(
    run: Run, machine: Machine, shards: int, autotune: bool, listener: Listener
) -> Planner:
    """For a run that goes on: the choices that it has, unless others are asked for."""
    here = tuned.Circumstances.here(machine)
    if not autotune:
        return partial(plan, choose=tuned.kept(run.path, here, listener.warned))
    if found := tuned.still_true(run.path, here, listener.warned):
        return partial(plan, choose=found.choices)
    listener.warned(f"{run.path}: what is measured now may round otherwise than the run did so far")
    return tuning.Tuner(share_of(machine.device, shards), told=listener.tuning)
