"""Learning-rate policies: the rate at an iteration, Caffe's own as Caffe's solvers compute it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Set
from dataclasses import dataclass
from fractions import Fraction
from math import cos, exp, inf, pi
from typing import Protocol, TypeAlias


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
    @property
    def min_lr(self) -> float: ...
    @property
    def pct_start(self) -> float: ...
    @property
    def div_factor(self) -> float: ...
    @property
    def final_div_factor(self) -> float: ...
    @property
    def lr_unit(self) -> str: ...
    @property
    def warmup(self) -> float: ...
    @property
    def warmup_factor(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Course:
    """What a rate hangs on beside the solver and the iteration."""

    length: int
    """Iterations in all."""
    epoch: Fraction = Fraction(1)
    """Iterations that an epoch takes, which need not be a whole number."""
    reductions: int = 0
    """How often `plateau` has cut the rate so far."""


_Time: TypeAlias = int | Fraction
"""Iterations or epochs done; a whole number of iterations, so that Caffe's rates stay its own."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A factor of base_lr as a function of solver, time in the solver's unit, and course."""

    factor: Callable[[Rates, _Time, Course], float]
    needs: tuple[str, ...] = ()
    """Solver fields it cannot do without."""
    takes: tuple[str, ...] = ()
    """Others that are for it, of those that Caffe lacks."""
    of_length: bool = False
    """Whether its time is counted in iterations anyhow, as a share of all of them."""


def _fixed(solver: Rates, time: _Time, course: Course) -> float:
    return 1.0


def _step(solver: Rates, time: _Time, course: Course) -> float:
    assert solver.gamma is not None
    assert solver.stepsize is not None
    return _raised(solver.gamma, time // solver.stepsize)


def _multistep(solver: Rates, time: _Time, course: Course) -> float:
    assert solver.gamma is not None
    return _raised(solver.gamma, bisect_right(solver.stepvalue, time))


def _inv(solver: Rates, time: _Time, course: Course) -> float:
    assert solver.gamma is not None
    assert solver.power is not None
    return _raised(1 + solver.gamma * time, -solver.power)


def _inverse_time(solver: Rates, time: _Time, course: Course) -> float:
    """1 / (1 + gamma·t): the "1/t decay" of CS231n, Caffe's `inv` with a power of 1."""
    assert solver.gamma is not None
    return 1 / (1 + solver.gamma * time)


def _exp(solver: Rates, time: _Time, course: Course) -> float:
    assert solver.gamma is not None
    return _raised(solver.gamma, time if isinstance(time, int) else float(time))


def _poly(solver: Rates, time: _Time, course: Course) -> float:
    assert solver.power is not None
    return _raised(max(0.0, 1 - float(time) / max(course.length, 1)), solver.power)


def _sigmoid(solver: Rates, time: _Time, course: Course) -> float:
    assert solver.gamma is not None
    assert solver.stepsize is not None
    x = solver.gamma * (time - solver.stepsize)
    small = exp(-abs(x))  # of the two forms, the one that cannot overflow
    return 1 / (1 + small) if x > 0 else small / (1 + small)


def _cosine(solver: Rates, time: _Time, course: Course) -> float:
    """From 1 to min_lr along half a wave of the cosine, without restarts.

    Loshchilov & Hutter 2017, arXiv:1608.03983, equation 5, as `CosineAnnealingLR` of PyTorch.
    """
    share = min(float(time) / max(course.length, 1), 1.0)
    return _waved(1.0, solver.min_lr / solver.base_lr, share)


def _plateau(solver: Rates, time: _Time, course: Course) -> float:
    """gamma for each time that the tests' score stood still (PyTorch, `ReduceLROnPlateau`)."""
    assert solver.gamma is not None
    return max(_raised(solver.gamma, course.reductions), solver.min_lr / solver.base_lr)


def _one_cycle(solver: Rates, time: _Time, course: Course) -> float:
    """From 1/div_factor up to 1, and down to that over final_div_factor.

    Smith & Topin 2018, arXiv:1708.07120, with the waves of PyTorch's `OneCycleLR`, whose first
    part ends an iteration before its share of the length does. The momentum stays as it is.
    """
    rise, last = solver.pct_start * course.length - 1, course.length - 1
    lowest = 1 / solver.div_factor
    if time <= rise:
        return _waved(lowest, 1.0, float(time) / rise if rise else 1.0)
    share = (float(time) - rise) / (last - rise)
    return _waved(1.0, lowest / solver.final_div_factor, min(share, 1.0))


def _waved(start: float, end: float, share: float) -> float:
    """Between two factors along half a wave of the cosine."""
    return end + (start - end) * (1 + cos(pi * share)) / 2


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
    "poly": Policy(_poly, ("power",), of_length=True),
    "sigmoid": Policy(_sigmoid, ("gamma", "stepsize")),
    "inverse_time": Policy(_inverse_time, ("gamma",)),
    "cosine": Policy(_cosine, takes=("min_lr",), of_length=True),
    "plateau": Policy(
        _plateau, ("gamma", "patience"), ("threshold", "threshold_mode", "cooldown", "min_lr")
    ),
    "one_cycle": Policy(
        _one_cycle, takes=("pct_start", "div_factor", "final_div_factor"), of_length=True
    ),
}
"""By the word that `lr_policy` takes. Source of the first seven: `SGDSolver::GetLearningRate`,
BVLC/caffe."""


def learning_rate(solver: Rates, iteration: int, course: Course) -> float:
    """The rate of an iteration, counted from 0.

    Warm-up multiplies the policy's rate, which counts from the first iteration on as it would
    without: `stepvalue: 30` is epoch 30 of the training (Goyal et al. 2017, arXiv:1706.02677).
    """
    policy = POLICIES[solver.lr_policy]
    time = iteration if solver.lr_unit == "ITERATION" else iteration / course.epoch
    factor = policy.factor(solver, iteration if policy.of_length else time, course)
    if time < solver.warmup:
        risen = float(time) / solver.warmup
        factor *= solver.warmup_factor + (1 - solver.warmup_factor) * risen
    return solver.base_lr * factor


def warming_up(solver: Rates, iteration: int, course: Course) -> bool:
    """Whether so many iterations leave the warm-up unfinished."""
    time = iteration if solver.lr_unit == "ITERATION" else iteration / course.epoch
    return time < solver.warmup


def conflict(solver: Rates, said: Set[str]) -> str | None:
    """What a solver lacks for its policy, or says for another one; `said` is not the default."""
    word, policy = solver.lr_policy, POLICIES[solver.lr_policy]
    if missing := [name for name in policy.needs if getattr(solver, name) in (None, ())]:
        return f"lr_policy {word} needs {' and '.join(missing)}"
    beyond_caffe = {name for p in POLICIES.values() for name in p.takes} | {"patience"}
    foreign = beyond_caffe - {*policy.needs, *policy.takes}
    if strays := sorted(foreign & said):
        return f"lr_policy {word} takes no {strays[0]}"
    if solver.min_lr > solver.base_lr:
        return f"min_lr {solver.min_lr:g} is above base_lr {solver.base_lr:g}"
    if word == "plateau" and solver.gamma is not None and solver.gamma >= 1:
        return f"gamma must be below 1 for plateau, not {solver.gamma:g}"
    if word == "one_cycle" and solver.warmup:
        return "one_cycle rises by itself, and takes no warmup"
    if "warmup_factor" in said and not solver.warmup:
        return "warmup_factor is for a warmup, and there is none"
    return None
