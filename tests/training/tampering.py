"""System calls of a process, listed and made to fail: what strace does with `inject`.

strace counts the calls of each thread, and its `-P` knows no file whose name is drawn. So a first
process is listed, whose n-th call is then that of every later one: in a training the calls that
reach the run's folder come in one order, from one thread. Which call failed is read from the trace.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

CHANGING = (
    "open", "openat", "creat", "write", "pwrite64", "writev", "fsync", "fdatasync", "close",
    "rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "mkdir", "mkdirat",
    "truncate", "ftruncate", "fallocate", "chmod", "fchmod", "fchmodat",
)  # fmt: skip
"""What files are changed through, as far as there is such a call here."""

LOOKING = (
    "read", "pread64", "getdents64", "stat", "lstat", "newfstatat", "statx", "statfs", "flock",
)  # fmt: skip
"""What only finds out what is there, and holds it."""

_CALL = re.compile(r"^(\d+) +(\w+)\(")
_TOKEN = re.compile(r"\.[0-9a-f]{8}\.tmp|\d{5,}")


@dataclass(frozen=True)
class Call:
    """One call that reached a folder."""

    name: str
    number: int
    """Among those of this name in its thread, from 1."""
    place: str
    """The first path in that folder that it names; empty for the folder itself."""


@dataclass(frozen=True)
class Fault:
    """An error in place of what a call would have done."""

    call: Call
    error: str
    lasting: bool = False
    """Whether the later calls of this name fail, too."""

    @property
    def row(self) -> str:
        """What tables count it under."""
        return f"{self.call.name}, from then on" if self.lasting else self.call.name

    def __str__(self) -> str:
        return f"{self.row} {self.error} of call {self.call.number}: {self.call.place or 'folder'}"

    def under(self, trace: Path) -> list[str]:
        """The command that a process is run by to meet with this fault."""
        when = f"{self.call.number}+" if self.lasting else f"{self.call.number}"
        inject = f"inject={self.call.name}:error={self.error}:when={when}"
        return _strace(trace, [self.call.name], "-e", inject)


def missing() -> str:
    """Why strace cannot be used here; empty if it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(
        ["strace", "-f", "-qq", "-e", "trace=none", "true"], capture_output=True, text=True
    )
    return "" if tried.returncode == 0 else f"strace may not trace: {tried.stderr.splitlines()[0]}"


def listing(trace: Path) -> list[str]:
    """The command that a process is run by to list its calls."""
    return _strace(trace, [f"?{name}" for name in CHANGING + LOOKING])


def killing(trace: Path, call: Call) -> list[str]:
    """The command that a process is run by to be killed at a call."""
    inject = f"inject={call.name}:signal=KILL:when={call.number}"
    return _strace(trace, [call.name], "-e", inject)


def _strace(trace: Path, names: Sequence[str], *more: str) -> list[str]:
    kinds = f"trace={','.join(names)}"
    return ["strace", "-f", "-y", "-qq", "-o", str(trace), "-e", kinds, *more]


def reached(trace: Path, folder: Path) -> list[Call]:
    """The listed calls that reached a folder, in order."""
    return [call for call, _ in _calls(trace, folder)]


def failed(trace: Path, folder: Path) -> list[Call]:
    """The calls there that did not come to be."""
    return [call for call, line in _calls(trace, folder) if line.endswith("(INJECTED)")]


def _calls(trace: Path, folder: Path) -> Iterator[tuple[Call, str]]:
    within = re.compile(re.escape(str(folder)) + r'(?:/([^"<>]*))?(?=["<>])')
    seen: Counter[tuple[str, ...]] = Counter()
    for line in trace.read_text(errors="replace").splitlines():
        if started := _CALL.match(line):
            seen[started.groups()] += 1
            if place := within.search(line):
                yield Call(started[2], seen[started.groups()], place[1] or ""), line


def spread(calls: Sequence[Call], count: int, random: Random) -> list[Call]:
    """Some of the calls, drawn, of as many different places as there are."""
    drawn = random.sample(calls, len(calls))
    seen: Counter[str] = Counter()
    ranks = []
    for call in drawn:
        place = _TOKEN.sub("#", call.place)
        ranks.append(seen[place])
        seen[place] += 1
    order = sorted(range(len(drawn)), key=lambda i: ranks[i])
    return [drawn[i] for i in order[:count]]
