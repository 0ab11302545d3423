"""`netspec doctor`: versions, devices that really work, a short training."""

from __future__ import annotations

import platform
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click
from rich.text import Text

import netspec
from netspec.cli import options
from netspec.diagnostics import NetspecError
from netspec.report.json import VERSION
from netspec.report.table import plain_table, print_wide

_PACKAGES = ("onnxruntime-gpu", "onnxruntime", "onnx", "numpy", "lark", "pydantic", "safetensors")

_ITERATIONS = 200
"""Of LeNet: seconds, and enough that a healthy machine learns the digits."""

_LEARNED = 0.85
"""Test accuracy below which something is wrong: guessing gives 0.1."""


@click.command("doctor")
@options.DEVICE
@options.JSON
def command(device: str, as_json: bool) -> int:
    """Versions, devices that really work, and a short training of LeNet."""
    facts: dict[str, Any] = {"version": VERSION, "netspec": netspec.__version__, **_versions()}
    facts.update(_devices())
    trained, fault = _train(device)
    facts["training"] = trained
    facts["fault"] = fault
    if as_json:
        options.print_json(facts)
    else:
        _print(facts)
    return 1 if fault else 0


def _versions() -> dict[str, Any]:
    found: dict[str, Any] = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def _devices() -> dict[str, Any]:
    from netspec.runtime.device import cuda_fault

    fault = cuda_fault()
    return {"cpu": "works", "cuda": "works" if fault is None else fault}


def _train(device: str) -> tuple[dict[str, Any] | None, str | None]:
    """A few iterations on the bundled digits; what came of it, or why it failed."""
    from netspec.compiler import read
    from netspec.grammar.printer import to_text
    from netspec.training.executor import Executor
    from netspec.training.experiment import prepare
    from netspec.training.loop import train
    from netspec.training.run import SPEC, Run, Settings

    begin = time.monotonic()
    try:
        experiment = prepare(read("lenet", sets=[f"solver.max_iter={_ITERATIONS}"]))
        with tempfile.TemporaryDirectory() as folder:
            text = to_text(experiment.spec.tree)
            run = Run.create(Path(folder), Settings(name="doctor"), {SPEC: text})
            with run.lock():
                executor = Executor.of(experiment, device)
                outcome = train(
                    executor, experiment.batches, experiment.solver, run, length=_ITERATIONS
                )
    except NetspecError as error:
        return None, str(error)
    accuracy = next(v for name, v in outcome.test.items() if name.startswith("accuracy"))
    seconds = time.monotonic() - begin
    trained = {"iterations": _ITERATIONS, "seconds": round(seconds, 2), "accuracy": accuracy}
    if accuracy < _LEARNED:
        return trained, f"{accuracy:.1%} after {_ITERATIONS} iterations is too little"
    return trained, None


def _print(facts: Mapping[str, Any]) -> None:
    table = plain_table(("", False), ("", False))
    table.show_header = False
    for name, value in facts.items():
        if name in ("version", "training", "fault") or value is None:
            continue
        table.add_row(name, Text(str(value)))
    trained = facts["training"]
    if trained:
        shown = f"{trained['accuracy']:.1%} on the digits after {trained['iterations']} iterations"
        table.add_row("training", Text(f"{shown}, {trained['seconds']} s"))
    table.add_row("verdict", Text(facts["fault"] or "ready to train"))
    print_wide(options.console(), table)
