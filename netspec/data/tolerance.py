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

    Only the main thread adds to it; threads that decode ask whether there is any use in going on.
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

    def bears(self, found: Bad) -> bool:
        """Whether a sample may still be passed over."""
        return found.name in self.names or len(self.names) < self.limit

    def refused(self, found: Bad) -> DataError:
        """What stops a training at a sample that may not be passed over."""
        before = len(self.names)
        if not before:
            return found.error
        return DataError(f"{found.error}; {before} were passed over before it")

    def pass_over(self, met: Iterable[Bad]) -> None:
        """Count samples that were met; DataError for the first that is one too many."""
        for found in met:
            if found.name in self.names:
                continue
            if not self.bears(found):
                raise self.refused(found)
            self.names[found.name] = None
            count = f"{len(self.names)} of at most {self.limit}"
            self.tell(f"{found.error}; the sample after it stands in for it ({count})")
