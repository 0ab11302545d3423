"""The data that a verb is asked about: those of a spec's sections, or a source by itself."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import click

from netspec import zoo
from netspec.cli.reader import SpecReader
from netspec.compiler import elaborate
from netspec.diagnostics import UsageError
from netspec.grammar import SUFFIXES
from netspec.ir.layer import Phase
from netspec.ir.sections import DataSection

WORD = click.argument("source", metavar="SPEC|PATH")

_SPLITS = {Phase.TRAIN: "train", Phase.TEST: "test"}


@dataclass(frozen=True)
class Asked:
    """A split of a source, as a section says it."""

    split: str
    section: DataSection
    base: Path
    """Where the paths in the section begin."""


def is_spec(word: str) -> bool:
    """Whether a word means a spec, and not a source."""
    return word.endswith(SUFFIXES) or (zoo.find(word) is not None and not os.path.exists(word))


def asked(word: str) -> list[Asked]:
    """Both phases of a spec that have data, or both splits of a source.

    Tests that look at what is held out of the training data have none of their own.
    UsageError for a spec without any, SpecErrors for one that is wrong.
    """
    if not is_spec(word):
        section = DataSection(source=word, batch_size=1)
        return [Asked(split, section, Path()) for split in _SPLITS.values()]
    spec = SpecReader().read(word)
    nets = elaborate(spec)
    found = []
    for phase, split in _SPLITS.items():
        data = nets[phase].net.data
        if data is None or not data.source or (phase is Phase.TEST and data.val):
            continue
        found.append(Asked(split, data, spec.base))
    if not found:
        raise UsageError(f"{word}: there is no `data {{ … }}` that names a source")
    return found
