"""Learning-rate policies: the rate at an iteration, as Caffe's solvers compute it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from math import exp, inf
from typing import Protocol


class Rates(Protocol):
    """The fields of a solver that its learning rate hangs on (`ir.sections.Solver`)."""

    @property
    def base_lr(self) -> float: ...
    @property
    def lr_policy(self) -> str: ...
    @property
    def gamma(self) -> float | None: ...
    @property
    def power(self) -> float | None: ...
    @property
    def stepsize(self) -> int | None: ...
    @property
    def stepvalue(self) -> tuple[int, ...]: ...


@dataclass(frozen=True, slots=True)
class Policy:
    """A factor of base_lr as a function of solver, iteration (from 0) and length."""

    factor: Callable[[Rates, int, int], float]
    needs: tuple[str, ...] = ()
    """Solver fields it cannot do without."""


def _fixed(solver: Rates, iteration: int, length: int) -> float:
    return 1.0


def _step(solver: Rates, iteration: int, length: int) -> float:
    assert solver.gamma is not None
    assert solver.stepsize is not None
    return _raised(solver.gamma, iteration // solver.stepsize)


def _multistep(solver: Rates, iteration: int, length: int) -> float:
    assert solver.gamma is not None
    return _raised(solver.gamma, bisect_right(solver.stepvalue, iteration))


def _inv(solver: Rates, iteration: int, length: int) -> float:
    assert solver.gamma is not None
    assert solver.power is not None
    return _raised(1 + solver.gamma * iteration, -solver.power)


def _exp(solver: Rates, iteration: int, length: int) -> float:
    assert solver.gamma is not None
    return _raised(solver.gamma, iteration)


def _poly(solver: Rates, iteration: int, length: int) -> float:
    assert solver.power is not None
    return _raised(max(0.0, 1 - iteration / max(length, 1)), solver.power)


def _sigmoid(solver: Rates, iteration: int, length: int) -> float:
    assert solver.gamma is not None
    assert solver.stepsize is not None
    x = solver.gamma * (iteration - solver.stepsize)
    small = exp(-abs(x))  # of the two forms, the one that cannot overflow
    return 1 / (1 + small) if x > 0 else small / (1 + small)


def _raised(base: float, exponent: float) -> float:
    """The power, infinite where a float cannot hold it: such a training diverges, and says so."""
    try:
        return float(base**exponent)
    except OverflowError:
        return inf


POLICIES: dict[str, Policy] = {
    "fixed": Policy(_fixed),
    "step": Policy(_step, ("gamma", "stepsize")),
    "multistep": Policy(_multistep, ("gamma", "stepvalue")),
    "inv": Policy(_inv, ("gamma", "power")),
    "exp": Policy(_exp, ("gamma",)),
    "poly": Policy(_poly, ("power",)),
    "sigmoid": Policy(_sigmoid, ("gamma", "stepsize")),
}
"""By the word that `lr_policy` takes. Source: `SGDSolver::GetLearningRate`, BVLC/caffe."""


def learning_rate(solver: Rates, iteration: int, length: int) -> float:
    """The rate of an iteration, counted from 0, of a training of `length` iterations."""
    return solver.base_lr * POLICIES[solver.lr_policy].factor(solver, iteration, length)
