"""Lets the system calls of a real `netspec train` fail, resumes it, and compares what comes out.

    python tests/training/fault_loop.py --each 3
    python tests/training/fault_loop.py --disk 6

One run goes through undisturbed. Then strace makes calls that reach the folder of a run fail, one
in each process: in new runs, and in those that go on after a kill. A training may go on, or end
with one line that says why. Either way no file may be torn, and without the fault the run must go
on and end with the bytes of the undisturbed one. Calls through which files are changed fail with an
error of the device, a full disk and a full quota, those that only look with the first.

With `--disk` the runs lie on a file system of so many megabytes, see `full_disk.py`. An interrupt
ends either with the table so far.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import full_disk
import tampering
from judging import Table, Tried, judged, resume, torn
from tampering import CHANGING, Call, Fault
from trainer import SPEC, Trainer, result

ERRORS = dict.fromkeys(CHANGING, ("EIO", "ENOSPC", "EDQUOT"))
LASTING = ("fsync", "rename", "unlink", "truncate")
"""Calls that also fail from then on: of the others the process itself has need."""


@dataclass(frozen=True)
class Stage:
    """Where a training is when a fault comes."""

    name: str
    command: Sequence[str]
    folder: Path
    before: Path | None = None
    """The runs that there are, if one of them is gone on with."""

    def trainer(self) -> Trainer:
        """One that begins here."""
        runs = self.folder / "tried"
        shutil.rmtree(runs, ignore_errors=True)
        if self.before is not None:
            shutil.copytree(self.before, runs)
        return Trainer(self.command, runs, self.folder / "output.txt")

    def run(self, trainer: Trainer, under: Sequence[str]) -> int:
        """Train under a command; the exit code."""
        return trainer.run(resume=self.before is not None, under=under)

    def calls(self) -> list[Call]:
        """Those that reach the run's folder in an undisturbed training."""
        trainer, trace = self.trainer(), self.folder / "trace.txt"
        if self.run(trainer, tampering.listing(trace)) != 0:
            sys.exit(f"the undisturbed run failed:\n{trainer.output()}")
        return tampering.reached(trace, self.folder)


def tried(stage: Stage, fault: Fault, wanted: Mapping[str, Any]) -> Tried | None:
    """Train with a fault, look at what it leaves, and go on without it; None if it hit others."""
    trainer, trace = stage.trainer(), stage.folder / "trace.txt"
    code = stage.run(trainer, fault.under(trace))
    if not tampering.failed(trace, stage.folder):
        return None
    found = judged(trainer, code)
    found.troubles += torn(trainer, wanted)
    resume(trainer, found, wanted)
    return found


def faults(calls: Sequence[Call], each: int, rng: random.Random) -> Iterator[Fault]:
    """So many of each call and error."""
    for name in dict.fromkeys(call.name for call in calls):
        own = [call for call in calls if call.name == name]
        for error in ERRORS.get(name, ("EIO",)):
            yield from (Fault(call, error) for call in tampering.spread(own, each, rng))
        if name in LASTING:
            yield from (Fault(c, "EIO", lasting=True) for c in tampering.spread(own, each, rng))


class Loop:
    """The undisturbed run, and what has come of the faults so far."""

    def __init__(
        self, command: Sequence[str], folder: Path, rng: random.Random, table: Table
    ) -> None:
        self.command, self.folder, self.rng, self.table = command, folder, rng, table
        first = Trainer(command, folder / "whole", folder / "output.txt")
        self.seconds = first.whole()
        self.wanted = result(first.made[-1])

    def stages(self) -> Iterator[Stage]:
        """A new run, and one that goes on after a kill about in the middle of its writing."""
        new = Stage("new", self.command, _made(self.folder / "new"))
        yield new
        writes = [call for call in new.calls() if call.name == "write"]
        kill = self.rng.choice(writes[len(writes) // 2 : 3 * len(writes) // 4])
        killed = new.trainer()
        if new.run(killed, tampering.killing(new.folder / "trace.txt", kill)) == 0:
            sys.exit("a kill did not hit")
        before = self.folder / "killed"
        killed.runs.rename(before)
        yield Stage("resumed", self.command, _made(self.folder / "resumed"), before)

    def run(self, each: int, only: Sequence[str], *, verbose: bool) -> None:
        """Try the faults of all stages in any order: the loop may be ended before it is through."""
        planned: list[tuple[Stage, Fault]] = []
        for stage in self.stages():
            calls = [call for call in stage.calls() if not only or call.name in only]
            planned += [(stage, fault) for fault in faults(calls, each, self.rng)]
        self.rng.shuffle(planned)
        print(f"{len(planned)} faults", flush=True)
        for stage, fault in planned:
            found = tried(stage, fault, self.wanted)
            if found is None:
                print(f"{stage.name}, {fault}: was another call this time")
                continue
            kind = (stage.name, fault.row, fault.error)
            self.table.add(kind, f"{stage.name}, {fault}", found, verbose=verbose)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", type=int, default=3, help="faults of each call and error")
    parser.add_argument("--calls", nargs="*", default=(), metavar="CALL", help="only these")
    parser.add_argument("--disk", type=int, metavar="MB", help="fill a file system of that size")
    parser.add_argument("--tries", type=int, default=20, help="how often, with --disk")
    parser.add_argument("--seed", type=int, default=None, help="of the draws; default: the clock")
    parser.add_argument("--verbose", action="store_true", help="say what came of every fault")
    return parser.parse_args()


def command(folder: Path, spec: str) -> list[str]:
    """Train a spec, which is written into a folder, for a short time."""
    file = folder / "kill.net"
    file.write_text(spec)
    short = ("solver.max_iter=25", "solver.test_interval=5", "solver.display=2")
    sets = [word for said in short for word in ("--set", said)]
    return [sys.executable, "-m", "netspec", "train", str(file), *sets]


def calls_fail(given: argparse.Namespace, folder: Path, rng: random.Random, table: Table) -> None:
    """Let calls fail, one after the other."""
    loop = Loop(command(folder, SPEC), folder, rng, table)
    print(f"undisturbed in {loop.seconds:.1f} s", flush=True)
    loop.run(given.each, given.calls, verbose=given.verbose)


def disk_fills(given: argparse.Namespace, folder: Path, rng: random.Random, table: Table) -> None:
    """Train a larger net where there is too little room."""
    large = command(folder, SPEC.replace("num_output: 8", "num_output: 32"))
    size = given.disk << 20
    full_disk.fill(large, folder, size, given.tries, rng, table, verbose=given.verbose)


def main() -> int:
    given = arguments()
    seed = time.time_ns() % 2**32 if given.seed is None else given.seed
    if why := full_disk.missing() if given.disk else tampering.missing():
        print(why)
        return 2
    print(f"seed {seed}")
    table = Table(*(full_disk.KINDS if given.disk else ("training", "call", "error")))
    with tempfile.TemporaryDirectory() as name, suppress(KeyboardInterrupt):
        go = disk_fills if given.disk else calls_fail
        go(given, Path(name).resolve(), random.Random(seed), table)
    table.print()
    return 1 if table.troubles else 0


if __name__ == "__main__":
    sys.exit(main())
