"""Solvers: how a flat group of weights moves along its gradient, as ONNX operators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

from netspec.ir.graph import Ops, Value
from netspec.ir.sections import Solver


@dataclass(frozen=True, slots=True)
class UpdateRule(ABC):
    """What one `type` of the solver section does to weights, gradient and its own memory.

    The new values may be written over the old ones, so `update` reads each old value before it
    makes the new one, or in the making: `codegen.step.assert_in_place` proves it.
    """

    solver: Solver

    slots: ClassVar[tuple[str, ...]]
    """Names of the tensors it keeps, each as large as the weights, zero at first."""
    scalars: ClassVar[tuple[str, ...]] = ("rate",)
    """Names of the numbers it is fed in each iteration, the learning rate first."""

    def feeds(self, rate: float, iteration: int) -> dict[str, float]:  # noqa: ARG002 for others
        """The scalars of an iteration, counted from 0."""
        return {"rate": rate}

    @abstractmethod
    def update(
        self,
        op: Ops,
        w: Value,
        g: Value,
        slots: Sequence[Value],
        scalars: Mapping[str, Value],
        *,
        decay: float,
    ) -> tuple[Value, tuple[Value, ...]]:
        """New weights and new slots; `scalars["rate"]` is the group's own, `decay` a constant."""


class SGD(UpdateRule):
    """v' = μ·v + lr·(g + λ·w); w' = w - v' (Caffe, `sgd_solver.cpp`).

    PyTorch keeps lr outside: b' = μ·b + g, w' = w - lr·b'. At a constant lr both are the same
    walk, v = lr·b. When lr falls, Caffe's v still carries steps of the old size, and they fade
    with μ; PyTorch scales the whole memory down at once.
    """

    slots: ClassVar = ("momentum",)

    def update(
        self,
        op: Ops,
        w: Value,
        g: Value,
        slots: Sequence[Value],
        scalars: Mapping[str, Value],
        *,
        decay: float,
    ) -> tuple[Value, tuple[Value, ...]]:
        (v,) = slots
        step = op.Mul(_decayed(op, w, g, decay), scalars["rate"])
        if self.solver.momentum:
            step = op.Add(op.Mul(v, op.scalar(self.solver.momentum)), step)
        return op.Sub(w, step), (step,)


class Nesterov(UpdateRule):
    """v' = μ·v + lr·(g + λ·w); w' = w - (1 + μ)·v' + μ·v (Caffe, `nesterov_solver.cpp`).

    At a constant lr this is PyTorch's `nesterov=True`.
    """

    slots: ClassVar = ("momentum",)

    def update(
        self,
        op: Ops,
        w: Value,
        g: Value,
        slots: Sequence[Value],
        scalars: Mapping[str, Value],
        *,
        decay: float,
    ) -> tuple[Value, tuple[Value, ...]]:
        (v,) = slots
        momentum = self.solver.momentum
        # μ·v serves twice, so that v is not read again once v' may stand in its place.
        carried = op.Mul(v, op.scalar(momentum))
        v = op.Add(carried, op.Mul(_decayed(op, w, g, decay), scalars["rate"]))
        step = op.Sub(op.Mul(v, op.scalar(1 + momentum)), carried)
        return op.Sub(w, step), (v,)


class Adam(UpdateRule):
    """m' = β₁m + (1-β₁)g; v' = β₂v + (1-β₂)g²; w' = w - lr·m̂ / (√v̂ + ε), g with λ·w in it.

    m̂ = m'/(1-β₁ᵗ) and v̂ = v'/(1-β₂ᵗ): Kingma & Ba 2015, arXiv:1412.6980, Algorithm 1, and
    `torch.optim.Adam`. Caffe adds ε to the uncorrected √v', which differs where √v' is near ε.
    """

    slots: ClassVar = ("m", "v")
    scalars: ClassVar = ("rate", "first", "second")

    def feeds(self, rate: float, iteration: int) -> dict[str, float]:
        """1/(1-β₁ᵗ) and 1/√(1-β₂ᵗ) beside the rate: computed here, in double precision."""
        t = iteration + 1
        first = 1 / (1 - self.solver.momentum**t)
        second = 1 / sqrt(1 - self.solver.momentum2**t)
        return {"rate": rate, "first": first, "second": second}

    def update(
        self,
        op: Ops,
        w: Value,
        g: Value,
        slots: Sequence[Value],
        scalars: Mapping[str, Value],
        *,
        decay: float,
    ) -> tuple[Value, tuple[Value, ...]]:
        m, v = slots
        first, second = self.solver.momentum, self.solver.momentum2
        g = _decayed(op, w, g, decay)
        m = op.Add(op.Mul(m, op.scalar(first)), op.Mul(g, op.scalar(1 - first)))
        squared = op.Mul(op.Mul(g, g), op.scalar(1 - second))
        v = op.Add(op.Mul(v, op.scalar(second)), squared)
        root = op.Add(op.Mul(op.Sqrt(v), scalars["second"]), op.scalar(self.solver.delta))
        rate = op.Mul(scalars["rate"], scalars["first"])
        return op.Sub(w, op.Div(op.Mul(m, rate), root)), (m, v)


def _decayed(op: Ops, w: Value, g: Value, decay: float) -> Value:
    """g + λ·w."""
    decayed: Value = op.Add(g, op.Mul(w, op.scalar(decay))) if decay else g
    return decayed


SOLVERS: dict[str, type[UpdateRule]] = {"SGD": SGD, "Nesterov": Nesterov, "Adam": Adam}
"""By the word that `solver { type: … }` takes."""


def update_rule(solver: Solver) -> UpdateRule:
    """The rule that a solver section asks for."""
    return SOLVERS[solver.type](solver)
