"""Options that several verbs share, and where their output goes."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netspec.diagnostics import Diagnostics, UsageError, printable

if TYPE_CHECKING:
    from netspec.training.execution.machine import Machine

SPEC = click.argument("spec")
SETS = click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="NAME=VALUE",
    help="Override a top-level let (width=32) or a section's field (solver.max_epoch=5).",
)
INCLUDES = click.option(
    "-I",
    "--include-path",
    "include_paths",
    multiple=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Another folder that includes may come from.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print versioned JSON on stdout.")
DEVICE = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to compute.",
)
TARGET = click.option(
    "--target",
    metavar="NAME",
    help="What graphs are compiled for: cpu, cpu-plain or cuda.  [default: the device's fastest]",
)
THREADS = click.option(
    "--threads",
    type=click.IntRange(1, 2**10),
    help="Threads of the CPU.  [default: one for each core]",
)
RECOMPUTE = click.option(
    "--recompute",
    metavar="NAMES",
    help="Blocks whose values are computed again for the gradients instead of kept: names or "
    "patterns such as 'stage*/*' with commas between them, or `all`.",
)
DATA = click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Take the data from here instead of the sections' source.",
)
PHASE = click.option(
    "--phase",
    type=click.Choice(["TEST", "TRAIN"]),
    default="TEST",
    show_default=True,
    help="The phase to show.",
)
BATCH = click.option("--batch", type=click.IntRange(1, 2**20), help="Batch size.")


def machine(device: str, target: str | None, threads: int | None) -> Machine:
    """Where a verb without a run computes; what is to be said of it is told on stderr."""
    from netspec.training.execution.machine import find_machine

    return find_machine(
        device, target=target, threads=threads, warn=lambda said: click.echo(said, err=True)
    )


def check_suffix(file: Path, suffix: str, what: str) -> None:
    """UsageError unless a file to write is called as what it will be."""
    if file.suffix.lower() != suffix:
        raise UsageError(f"{file}: {what} written as {suffix}")


def names(given: str | None, option: str) -> tuple[str, ...]:
    """The names of a list with commas between them; UsageError for one that is empty."""
    if given is None:
        return ()
    found = tuple(name.strip() for name in given.split(","))
    if not all(found):
        raise UsageError(f"{option} takes names with commas between them, not `{given}`")
    return found


def print_warning(message: str) -> None:
    """A warning on stderr."""
    click.echo(f"warning: {printable(message)}", err=True)


def print_warnings(found: Diagnostics) -> None:
    """What is legal but odd, on stderr."""
    for lint in found.warnings:
        click.echo(lint.render("warning"), err=True)


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """One JSON value on stdout; numbers that are not finite, which JSON lacks, are null."""
    json.dump(_finite(value), sys.stdout, indent=indent, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")
    sys.stdout.flush()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
