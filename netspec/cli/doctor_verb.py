"""`netspec doctor`: versions, devices that really work, a short training."""

from __future__ import annotations

import platform
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

from netspec.cli import options
from netspec.diagnostics import NetspecError
from netspec.report.json import VERSION
from netspec.report.table import Table, print_table
from netspec.version import __version__
from netspec.zoo import find

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
    facts: dict[str, Any] = {"version": VERSION, "netspec": __version__, **_versions()}
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
    try:
        from netspec.runtime.device import cuda_fault
        from netspec.training.execution.targets import find_target

        fault = cuda_fault()
        found = find_target("cpu")
    except Exception as error:  # onnxruntime itself is broken: this verb is there to say so
        return {"cpu": _reason(error), "cuda": _reason(error)}
    layout = found.note or f"blocks of {found.target.block} channels"
    return {"cpu": "works", "layout": layout, "cuda": "works" if fault is None else fault}


def _train(device: str) -> tuple[dict[str, Any] | None, str | None]:
    """A few iterations on the bundled digits; what came of it, or why it failed."""
    begin = time.monotonic()
    try:
        from netspec.compiler import read
        from netspec.training.launch import train

        spec = read(str(find("lenet")), sets=[f"solver.max_iter={_ITERATIONS}"])
        with tempfile.TemporaryDirectory() as folder:
            outcome = train(spec, runs=folder, device=device)
    except Exception as error:
        return None, _reason(error)
    accuracy = next(v for name, v in outcome.test.items() if name.startswith("accuracy"))
    seconds = time.monotonic() - begin
    trained = {"iterations": _ITERATIONS, "seconds": round(seconds, 2), "accuracy": accuracy}
    if accuracy < _LEARNED:
        return trained, f"{accuracy:.1%} after {_ITERATIONS} iterations is too little"
    return trained, None


def _reason(error: Exception) -> str:
    known = isinstance(error, NetspecError)
    return str(error) if known else f"{type(error).__name__}: {error}"


def _print(facts: Mapping[str, Any]) -> None:
    table = Table([("", False), ("", False)])
    for name, value in facts.items():
        if name in ("version", "training", "fault") or value is None:
            continue
        table.add(name, str(value))
    trained = facts["training"]
    if trained:
        shown = f"{trained['accuracy']:.1%} on the digits after {trained['iterations']} iterations"
        table.add("training", f"{shown}, {trained['seconds']} s")
    table.add("verdict", facts["fault"] or "ready to train")
    print_table(table)
