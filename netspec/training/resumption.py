"""A run that is gone on with: which one it is, and what it was computed on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from netspec.codegen.layout import Planner, plan
from netspec.compiler import Spec, elaborate
from netspec.diagnostics import Source, UsageError
from netspec.grammar.parser import parse
from netspec.training import autotune as tuning
from netspec.training import tuned
from netspec.training.beginning import run_texts, seeded
from netspec.training.listener import Listener
from netspec.training.machine import Machine
from netspec.training.run import SPEC, Run, latest_run


def run_again(spec: Spec, runs: Path, folder: Path | None = None) -> Run:
    """The last run of this spec, or that of a folder.

    Refused if the spec, or what it includes, has changed since.
    """
    net = elaborate(spec).train.net
    run = latest_run(runs, net.name) if folder is None else Run.open(folder)
    if run is None:
        raise UsageError(f"there is no run of {net.name} under {runs} to go on with")
    if net.solver is not None and net.solver.random_seed < 0:
        spec = seeded(spec, run.settings.seed)
    for file, text in run_texts(spec).items():
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


def planner_again(run: Run, machine: Machine, autotune: bool, listener: Listener) -> Planner:
    """For a run that goes on: the choices that it has, unless others are asked for."""
    here = tuned.Circumstances.here(machine)
    if not autotune:
        return partial(plan, choose=tuned.kept(run.path, here, listener.warned))
    if found := tuned.still_true(run.path, here, listener.warned):
        return partial(plan, choose=found.choices)
    listener.warned(f"{run.path}: what is measured now may round otherwise than the run did so far")
    return tuning.Tuner(machine.device, told=listener.tuning)
