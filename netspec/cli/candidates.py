"""The nets that a verb is to run on data: run folders, or a spec with weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netspec.cli import options
from netspec.cli.reader import SpecReader, reader_options
from netspec.cli.sections import is_spec
from netspec.cli.weights import IGNORE_MISMATCH, WEIGHTS, load
from netspec.diagnostics import UsageError

if TYPE_CHECKING:
    from netspec.training.testing.candidate import Candidate, Split


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens what the command line names, with the weights and data of its options."""

    weights: str | None
    ignore_mismatch: bool
    best: bool
    data: Path | None
    reader: SpecReader

    def one(self, name: str, split: Split = "test") -> Candidate:
        """The net of a run folder or a spec, beside the data of a split; see `Candidate.of_run`."""
        from netspec.training.testing.candidate import Candidate

        if self.weights is None:
            return self._of_run(Path(name), split)
        if self.best:
            raise UsageError("--best is for a run folder: --weights says which weights to take")
        if split == "val":
            raise UsageError("--split val is of a run: what its training held out")
        spec = self.reader.read(name, data=self.data)
        given = partial(load, self.weights, ignore_mismatch=self.ignore_mismatch)
        return Candidate.of_spec(spec, given, data=self.data, split=split)

    def all(self, names: Sequence[str], split: Split = "test") -> Iterator[Candidate]:
        """Several run folders, or one spec: each opened when its turn comes."""
        if self.weights is not None and len(names) > 1:
            raise UsageError("--weights goes with one spec, and an ensemble is of run folders")
        for name in names:
            yield self.one(name, split)

    def _of_run(self, path: Path, split: Split) -> Candidate:
        from netspec.training.runs.run import Run
        from netspec.training.testing.candidate import Candidate

        if self.reader != SpecReader() or self.ignore_mismatch:
            raise UsageError("a run folder has all that it needs: the other options go with a spec")
        if path.is_file() or (is_spec(str(path)) and not path.is_dir()):
            raise UsageError(f"{path}: is no run folder; a spec takes --weights")
        return Candidate.of_run(
            Run.open(path),
            data=self.data,
            best=self.best,
            split=split,
            tell=options.print_warning,
        )


def candidate_options(command: Callable[..., int]) -> Callable[..., int]:
    """The options that say which weights and data, gathered as its argument `opener`."""

    @WEIGHTS
    @IGNORE_MISMATCH
    @click.option(
        "--best", is_flag=True, show_default="off",
        help="Of a run folder, take the weights that tested best instead of the last.",
    )  # fmt: skip
    @options.DATA
    @reader_options
    @wraps(command)
    def gathered(
        weights: str | None,
        ignore_mismatch: bool,
        best: bool,
        data: Path | None,
        reader: SpecReader,
        **others: Any,
    ) -> int:
        opener = Opener(weights, ignore_mismatch, best, data, reader)
        return command(opener=opener, **others)

    return gathered
