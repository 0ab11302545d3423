"""What a training comes to that a fault of the system met: no file torn, one message, and equal."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainer import FILES, Trainer, differing, rows

from netspec.diagnostics import NetspecError
from netspec.training.runs.checkpoint import load
from netspec.training.runs.run import Run

_SAID = re.compile(r"(training in|going on with|iteration +[\d,]+ |done|best: )|\S+/model\.onnx$")
"""What a training says that nothing befell."""
_BEHIND = "the log is behind"

COLUMNS = (
    "tries",
    "ended with a message",
    "went on with a warning",
    "went on without a word",
    "log behind",
    "resumed equal",
)


@dataclass
class Tried:
    """What came of a fault."""

    code: int
    """The exit code of the training that it met."""
    said: list[str]
    """What that said besides the usual."""
    behind: bool = False
    """Whether the log lacks rows in the end, of which there was a warning."""
    equal: bool = False
    """Whether all is in the end as in the undisturbed run."""
    troubles: list[str] = field(default_factory=list)

    def columns(self) -> list[str]:
        """Those of the table in which it counts."""
        if self.code != 0:
            came = "ended with a message"
        elif any(line.startswith("warning: ") for line in self.said):
            came = "went on with a warning"
        else:
            came = "went on without a word"
        ends = {"log behind": self.behind, "resumed equal": self.equal}
        return ["tries", came, *(name for name, reached in ends.items() if reached)]


class Table:
    """Counts what came of faults, by their kind."""

    def __init__(self, *kinds: str) -> None:
        self.kinds = kinds
        self.rows: dict[tuple[str, ...], Counter[str]] = {}
        self.troubles = 0

    def add(self, kind: tuple[str, ...], what: str, found: Tried, *, verbose: bool) -> None:
        """Count one, and tell of it if it made trouble."""
        self.rows.setdefault(kind, Counter()).update(found.columns())
        self.troubles += bool(found.troubles)
        if verbose or found.troubles:
            print(f"{what}: {', '.join(found.columns()[1:])}")
            for line in found.said:
                print(f"  said: {line}")
            for line in found.troubles:
                print(f"  TROUBLE: {line}", flush=True)

    def print(self) -> None:
        """The table, and the sums."""
        print(f"| {' | '.join((*self.kinds, *COLUMNS))} |")
        print(f"|{'---|' * (len(self.kinds) + len(COLUMNS))}")
        sums = sum(self.rows.values(), Counter[str]())
        all_of_them = ("all", *("" for _ in self.kinds[1:]))
        for kind, counts in [*sorted(self.rows.items()), (all_of_them, sums)]:
            print(f"| {' | '.join((*kind, *(str(counts[name]) for name in COLUMNS)))} |")
        print(f"{self.troubles} of {sums['tries']} faults made trouble")


def judged(trainer: Trainer, code: int, heard: bool = True) -> Tried:
    """What a process has left that ended with a code; `heard` is whether it could say why."""
    said = [line for line in trainer.output().splitlines() if not _SAID.match(line)]
    found = Tried(code, said)
    if heard:
        found.troubles += _strange(code, said)
    elif code not in (0, 1):
        found.troubles.append(f"exit code {code}")
    return found


def _strange(code: int, said: Sequence[str]) -> Iterator[str]:
    """What is not as it should be in how a process ended."""
    messages = [line for line in said if not line.startswith("warning: ")]
    if code not in (0, 1) or len(messages) != code or "internal error" in "".join(messages):
        yield f"exit code {code} with {messages or 'no message'}"


def torn(trainer: Trainer, wanted: Mapping[str, Any]) -> Iterator[str]:
    """Files that are there, and are not whole."""
    for path in trainer.runs.rglob("checkpoints/*.safetensors"):
        try:
            load(path)
        except NetspecError as fault:
            yield f"torn: {fault}"
    for run in trainer.made:
        try:
            Run.open(run)
        except NetspecError as fault:
            yield f"torn: {fault}"
        for name in FILES:
            if (run / name).exists() and (run / name).read_bytes() != wanted[name]:
                yield f"torn: {name}"


def resume(trainer: Trainer, found: Tried, wanted: Mapping[str, Any]) -> None:
    """Go on without the fault, and compare what comes out."""
    code = trainer.run(resume=bool(trainer.made))
    if code != 0:
        found.troubles.append(f"resumed, it ended with exit code {code}: {trainer.output()}")
        return
    run = trainer.made[-1]
    other = differing(run, wanted)
    found.equal = not other
    if other and {*other} <= {"log.csv", "events.jsonl"} and _BEHIND in "".join(found.said):
        found.behind = all(_fewer(rows(run)[name], wanted[name]) for name in other)
    if other and not found.behind:
        found.troubles.append(f"resumed, it differs in {', '.join(other)}")
    found.troubles += [f"left behind: {path.name}" for path in run.rglob(".*.tmp")]


def _fewer(some: Sequence[Any], all_of_them: Sequence[Any]) -> bool:
    """Whether rows are missing, and nothing else is wrong with them."""
    rest = iter(all_of_them)
    return all(row in rest for row in some)
