"""How many samples that cannot be read a training passes over, and which they were."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from netspec.diagnostics import DataError


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
    ) -> None:
        """`tell` hears of each; `known` were met before, as a run that goes on remembers."""
        self.limit = limit
        self.names = dict.fromkeys(known)
        """Those that were met, in the order in which they were."""
        self.tell = tell

    def pass_over(self, met: Iterable[Bad]) -> None:
        """Count samples that were met; DataError for the first that is one too many."""
        for name, error in met:
            if name in self.names:
                continue
            before = len(self.names)
            if before >= self.limit:
                more = f"; {before} were passed over before it" if before else ""
                raise DataError(f"{error}{more}")
            self.names[name] = None
            count = f"{before + 1} of at most {self.limit}"
            self.tell(f"{error}; the sample after it stands in for it ({count})")
