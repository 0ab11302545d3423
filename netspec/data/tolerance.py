"""How many samples that cannot be read a training passes over, and which they were."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import takewhile
from operator import eq
from pathlib import Path
from typing import NamedTuple

from netspec.diagnostics import DataError, printable


class Bad(NamedTuple):
    """A sample that cannot be read."""

    name: str
    error: DataError


class Tolerance:
    """Passes over `limit` bad samples, each told once, and stops at the next one.

    For the main thread alone: what it counts hangs on the order of the batches, not of the threads.
    """

    def __init__(
        self,
        limit: int = 0,
        tell: Callable[[str], None] = lambda _: None,
        known: Iterable[str] = (),
        instead: str = "the sample after it stands in for it",
    ) -> None:
        """`tell` hears of each, and what happens `instead` of its being read.

        `known` were met before, as a run that goes on remembers. Their folder may have been moved
        since: of a path its last two parts count.
        """
        self.limit = limit
        self.names = dict.fromkeys(map(printable, known))
        """Those that were met, in the order in which they were."""
        self.tell = tell
        self._instead = instead
        self._remembered = dict(self.names)
        """The known ones that were not met again yet."""
        self._again: set[str] = set()
        """What those are called now that were."""

    def pass_over(self, met: Iterable[Bad]) -> None:
        """Count samples that were met; DataError for the first that is one too many."""
        for bad, error in met:
            name = printable(bad)
            if self._known(name):
                continue
            before = len(self.names)
            if before >= self.limit:
                more = f"; {before} were passed over before it" if before else ""
                raise DataError(f"{error}{more}")
            self.names[name] = None
            self._again.add(name)
            count = f"{before + 1} of at most {self.limit}"
            self.tell(f"{error}; {self._instead} ({count})")

    def _known(self, name: str) -> bool:
        """Whether a sample was met before; each that is remembered stands for one alone."""
        if name in self._again:
            return True
        old = name if name in self._remembered else _likest(name, self._remembered)
        if old is None:
            return False
        del self._remembered[old]
        self._again.add(name)
        return True


def _likest(name: str, others: Iterable[str]) -> str | None:
    """The path that ends as `name` does, in the most parts and at least the last two."""
    most, found = 0, None
    for other in others:
        ends = [Path(path).parts[::-1] for path in (name, other)]
        same = sum(takewhile(bool, map(eq, *ends)))
        if same > most and same >= min(2, *map(len, ends)):
            most, found = same, other
    return found
