"""What the loop is given: who runs steps, which samples they take, and who finds a fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

from netspec.training.metrics import Scores, Step
from netspec.training.runs.checkpoint import State

Diagnose: TypeAlias = Callable[[int, NDArray[Any]], str]
"""What went wrong first in an iteration of these samples; empty if nothing is found."""


class Executor(Protocol):
    """Runs steps; the one part that holds tensors."""

    def step(
        self, iteration: int, indices: NDArray[Any], rate: float, stopped: Callable[[], bool]
    ) -> Step:
        """An iteration; CutShort, and nothing changed, if it is `stopped` between its batches."""
        ...

    def evaluate(self, batches: int | None) -> Scores:
        """The test data's, or those of so many batches of it.

        A signal may abandon it midway; state() must then still be right.
        """
        ...

    def state(self) -> State: ...
    def restore(self, state: State) -> None: ...


class Batches(Protocol):
    """Which samples an iteration takes."""

    @property
    def samples(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    def indices(self, iteration: int) -> NDArray[Any]: ...
    def epoch(self, iteration: int) -> int: ...
