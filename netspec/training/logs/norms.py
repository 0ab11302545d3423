"""How large weights, gradients and updates are: what tells a rate that is too high or too low."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf, isfinite

import numpy as np
from numpy.typing import NDArray

from netspec.training.execution.held import Held
from netspec.training.listener import Listener
from netspec.training.logs.events import Norm

Measured = Callable[[int, Mapping[str, Norm]], None]


class Norms(Listener):
    """Measures the first step, and those of which `wanted` says so by the iterations then done.

    An update is what the weights were changed by, whatever the solver: they are copied before such
    a step, and nothing is done in the others.
    """

    def __init__(self, held: Held, wanted: Callable[[int], bool], measured: Measured) -> None:
        self._held = held
        self._wanted = wanted
        self._measured = measured
        self._before: dict[str, NDArray[np.float32]] | None = None

    def started(self, iteration: int, length: int, run: object) -> None:
        if iteration == 0 or self._wanted(iteration + 1):
            self._before = self._held.weights.dump()

    def progressed(self, iteration: int, loss: float, rate: float) -> None:
        if self._before is not None:
            self._measured(iteration, self._norms(self._before))
            self._before = None
        if self._wanted(iteration + 1):
            self._before = self._held.weights.dump()

    def _norms(self, before: Mapping[str, NDArray[np.float32]]) -> dict[str, Norm]:
        gradients, after = self._held.summed_gradients(), self._held.weights.dump()
        with np.errstate(over="ignore", invalid="ignore"):  # what overflowed has no norm
            updates = {name: after[name] - weight for name, weight in before.items()}
        return {
            name: Norm(
                weight=_norm(before[name]),
                gradient=_norm(gradients[name]),
                update=_norm(update),
            )
            for name, update in updates.items()
        }


def _norm(values: NDArray[np.float32]) -> float | None:
    """√Σx² to four digits; in double precision where float32 does not hold the squares."""
    flat = values.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(np.dot(flat, flat))
    if not 1e-30 < total < inf:
        total = float(np.square(flat, dtype=np.float64).sum())
    return float(f"{total**0.5:.4g}") if isfinite(total) else None
