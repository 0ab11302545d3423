"""A spec that is no longer the one that a run began with: how it differs, and what still fits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from netspec.diagnostics import Source, printable
from netspec.files import reaching
from netspec.grammar.parser import parse
from netspec.ir.types import size
from netspec.training.runs.checkpoint import State
from netspec.training.runs.run import Run

_SHOWN = 40
"""Lines of a difference that are shown; the run keeps all."""


def changed_texts(run: Run, texts: Mapping[str, str]) -> list[str]:
    """The names of the files that no longer say what the run's copies do."""
    return [file for file, text in texts.items() if not _says(run.path / file, text)]


def difference(run: Run, texts: Mapping[str, str]) -> str:
    """Line by line, of the copies that the run has, and of what would take their place."""
    lines: list[str] = []
    for file, text in texts.items():
        kept = run.path / file
        before = kept.read_text("utf-8").splitlines() if kept.is_file() else []
        lines += unified_diff(before, text.splitlines(), f"{file} of the run", file, "", "", 1, "")
    return "\n".join(map(printable, lines))


def shortened(difference: str) -> str:
    """What is shown of it."""
    lines = difference.splitlines()
    more = [f"… and {len(lines) - _SHOWN} lines more"] if len(lines) > _SHOWN else []
    return "\n".join([*lines[:_SHOWN], *more])


def _says(file: Path, text: str) -> bool:
    """Whether a spec's file means what `text` does: layout and comments may differ."""
    with reaching(file, "read"):
        if not file.is_file():
            return False
        kept = file.read_text("utf-8")
    return kept == text or parse(Source(str(file), kept)) == parse(Source(str(file), text))


@dataclass(frozen=True)
class Fit:
    """A state that another spec's training goes on from."""

    state: State
    notes: tuple[str, ...]
    """What does not go on as it was."""


def fitted(saved: State, drawn: State) -> Fit:
    """`drawn`, the state that a net begins with, with all of `saved` that has name and shape.

    Of the solver's memory too: what it has none of begins with nothing.
    """
    notes: list[str] = []
    weights = _taken(saved.weights, drawn.weights, notes, "is drawn anew")
    statistics = _taken(saved.statistics, drawn.statistics, notes, "begins anew")
    slots = {}
    for slot, tensors in drawn.slots.items():
        if slot not in saved.slots:
            notes.append(f"the solver's {slot} begins anew")
        slots[slot] = _taken(saved.slots.get(slot, {}), tensors, [], "")
    began = {**weights, **statistics}  # where a mean begins, if none goes on
    averages = _taken(saved.averages, {n: began[n] for n in drawn.averages}, [], "")
    gone = [*(saved.weights.keys() - drawn.weights.keys()), *(saved.slots.keys() - slots.keys())]
    notes += [f"`{name}` is dropped" for name in sorted(gone)]
    return Fit(State(weights, slots, statistics, averages), tuple(notes))


def _taken(
    saved: Mapping[str, NDArray[np.float32]],
    drawn: Mapping[str, NDArray[np.float32]],
    notes: list[str],
    otherwise: str,
) -> dict[str, NDArray[np.float32]]:
    taken = {}
    for name, array in drawn.items():
        found = saved.get(name)
        fits = found is not None and found.shape == array.shape
        taken[name] = array if found is None or not fits else found
        if not fits:
            was = "" if found is None else f", {size(array.shape)} for {size(found.shape)},"
            notes.append(f"`{name}`{was} {otherwise}")
    return taken
