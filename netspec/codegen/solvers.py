"""Solvers: how a flat group of weights moves along its gradient, as ONNX operators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar, TypeAlias

from netspec.ir.graph import Ops, Value
from netspec.ir.phrases import slope
from netspec.ir.sections import Solver

Slots: TypeAlias = Sequence[Value]
Scalars: TypeAlias = Mapping[str, Value]
Moved: TypeAlias = tuple[Value, tuple[Value, ...]]
"""The new weights, and the new slots."""


@dataclass(frozen=True, slots=True)
class UpdateRule(ABC):
    """What one `type` of the solver section does to weights, gradient and its own memory.

    The new values may be written over the old ones, so `move` reads each old value before it
    makes the new one, or in the making: `codegen.update.assert_in_place` proves it.
    """

    solver: Solver

    slots: ClassVar[tuple[str, ...]]
    """Names of the tensors it keeps, each as large as the weights, zero at first; where Caffe has
    the solver, in the order of its history."""
    scalars: ClassVar[tuple[str, ...]] = ("rate",)
    """Names of the numbers it is fed in each iteration, the learning rate first."""

    def feeds(self, rate: float, iteration: int) -> dict[str, float]:  # noqa: ARG002 for others
        """The scalars of an iteration, counted from 0."""
        return {"rate": rate}

    def update(
        self, op: Ops, w: Value, g: Value, slots: Slots, scalars: Scalars, *, decay: float
    ) -> Moved:
        """New weights and new slots, the gradient of the penalty added to the loss's."""
        if decay:
            g = op.Add(g, self.pull(op, w, decay))
        return self.move(op, w, g, slots, scalars)

    def pull(self, op: Ops, w: Value, decay: float) -> Value:
        """The penalty's gradient: λ·w for L2, λ·sign(w) for L1 (Caffe, `SGDSolver::Regularize`)."""
        if self.solver.regularization_type == "L1":
            return slope(op, w, -decay, decay)
        pulled: Value = op.Mul(w, op.scalar(decay))
        return pulled

    @abstractmethod
    def move(self, op: Ops, w: Value, g: Value, slots: Slots, scalars: Scalars) -> Moved:
        """New weights and new slots by the whole gradient; `scalars["rate"]` is the group's own."""


class SGD(UpdateRule):
    """v' = μ·v + lr·g; w' = w - v' (Caffe, `sgd_solver.cpp`).

    PyTorch keeps lr outside, see `PytorchSGD`. At a constant lr both are the same walk, v = lr·b.
    When lr falls, Caffe's v still carries steps of the old size, and they fade with μ; PyTorch
    scales the whole memory down at once.
    """

    slots: ClassVar = ("momentum",)

    def move(self, op: Ops, w: Value, g: Value, slots: Slots, scalars: Scalars) -> Moved:
        (v,) = slots
        step = op.Mul(g, scalars["rate"])
        if self.solver.mu:
            step = op.Add(op.Mul(v, op.scalar(self.solver.mu)), step)
        return op.Sub(w, step), (step,)


class Nesterov(UpdateRule):
    """v' = μ·v + lr·g; w' = w - (1 + μ)·v' + μ·v (Caffe, `nesterov_solver.cpp`).

    At a constant lr this is PyTorch's `nesterov=True`.
    """

    slots: ClassVar = ("momentum",)

    def move(self, op: Ops, w: Value, g: Value, slots: Slots, scalars: Scalars) -> Moved:
        (v,) = slots
        # μ·v serves twice, so that v is not read again once v' may stand in its place.
        carried = op.Mul(v, op.scalar(self.solver.mu))
        v = op.Add(carried, op.Mul(g, scalars["rate"]))
        step = op.Sub(op.Mul(v, op.scalar(1 + self.solver.mu)), carried)
        return op.Sub(w, step), (v,)


class AdaGrad(UpdateRule):
    """h' = h + g²; w' = w - lr·g / (√h' + δ).

    Duchi, Hazan & Singer, JMLR 12 (2011); Caffe, `adagrad_solver.cpp`, and `torch.optim.Adagrad`.
    """

    slots: ClassVar = ("squares",)

    def move(self, op: Ops, w: Value, g: Value, slots: Slots, scalars: Scalars) -> Moved:
        (h,) = slots
        h = op.Add(h, op.Mul(g, g))
        return op.Sub(w, _scaled(op, g, h, scalars["rate"], self.solver.delta)), (h,)


class RMSProp(UpdateRule):
    """h' = ρ·h + (1-ρ)·g²; w' = w - lr·g / (√h' + δ), ρ the `rms_decay`.

    Tieleman & Hinton, COURSERA lecture 6.5 (2012); Caffe, `rmsprop_solver.cpp`, and
    `torch.optim.RMSprop` without momentum; with it see `PytorchRMSProp`.
    """

    slots: ClassVar = ("mean_square",)

    def move(self, op: Ops, w: Value, g: Value, slots: Slots, scalars: Scalars) -> Moved:
        (h,) = slots
        h = _mean_square(op, h, g, self.solver.rms_decay)
        return op.Sub(w, _scaled(op, g, h, scalars["rate"], self.solver.delta)), (h,)


class AdaDelta(UpdateRule):
    """h' = μ·h + (1-μ)·g²; u = g·√((s + δ) / (h' + δ)); s' = μ·s + (1-μ)·u²; w' = w - lr·u.

    Zeiler, arXiv:1212.5701; Caffe, `adadelta_solver.cpp`, and `torch.optim.Adadelta`.
    """

    slots: ClassVar = ("mean_square", "mean_square_step")

    def move(self, op: Ops, w: Value, g: Value, slots: Slots, scalars: Scalars) -> Moved:
        h, s = slots
        decay, delta = self.solver.mu, op.scalar(self.solver.delta)
        h = _mean_square(op, h, g, decay)
        ratio = op.Div(op.Add(s, delta), op.Add(h, delta))
        step = op.Mul(g, op.Sqrt(ratio))
        s = _mean_square(op, s, step, decay)
        return op.Sub(w, op.Mul(step, scalars["rate"])), (h, s)


class Adam(UpdateRule):
    """m' = β₁·m + (1-β₁)·g; v' = β₂·v + (1-β₂)·g²; w' = w - lr·c·m' / (√v' + δ).

    c = √(1-β₂ᵗ) / (1-β₁ᵗ): Kingma & Ba 2015, arXiv:1412.6980, as the end of section 2 has it, and
    Caffe, `adam_solver.cpp`. Their Algorithm 1 and PyTorch add δ to the corrected √v', see
    `PytorchAdam`; it differs where √v' is near δ.
    """

    slots: ClassVar = ("m", "v")
    scalars: ClassVar[tuple[str, ...]] = ("rate", "correction")

    def feeds(self, rate: float, iteration: int) -> dict[str, float]:
        """c beside the rate: computed here, in double precision."""
        t = iteration + 1
        correction = sqrt(1 - self.solver.momentum2**t) / (1 - self.solver.mu**t)
        return {"rate": rate, "correction": correction}

    def move(self, op: Ops, w: Value, g: Value, slots: Slots, scalars: Scalars) -> Moved:
        m, v = self.moments(op, g, slots)
        root = op.Add(op.Sqrt(v), op.scalar(self.solver.delta))
        rate = op.Mul(scalars["rate"], scalars["correction"])
        return op.Sub(w, op.Div(op.Mul(m, rate), root)), (m, v)

    def moments(self, op: Ops, g: Value, slots: Slots) -> tuple[Value, Value]:
        """m' and v'."""
        m, v = slots
        first = self.solver.mu
        m = op.Add(op.Mul(m, op.scalar(first)), op.Mul(g, op.scalar(1 - first)))
        return m, _mean_square(op, v, g, self.solver.momentum2)


class PytorchSGD(UpdateRule):
    """b' = μ·b + g; w' = w - lr·b' (`torch.optim.SGD`)."""

    slots: ClassVar = ("momentum",)

    def move(self, op: Ops, w: Value, g: Value, slots: Slots, scalars: Scalars) -> Moved:
        (b,) = slots
        b = op.Add(op.Mul(b, op.scalar(self.solver.mu)), g)
        return op.Sub(w, op.Mul(b, scalars["rate"])), (b,)


class PytorchNesterov(UpdateRule):
    """b' = μ·b + g; w' = w - lr·(g + μ·b') (`torch.optim.SGD`, `nesterov=True`)."""

    slots: ClassVar = ("momentum",)

    def move(self, op: Ops, w: Value, g: Value, slots: Slots, scalars: Scalars) -> Moved:
        (b,) = slots
        momentum = op.scalar(self.solver.mu)
        b = op.Add(op.Mul(b, momentum), g)
        step = op.Add(g, op.Mul(b, momentum))
        return op.Sub(w, op.Mul(step, scalars["rate"])), (b,)


class PytorchRMSProp(UpdateRule):
    """h' = ρ·h + (1-ρ)·g²; b' = μ·b + g / (√h' + δ); w' = w - lr·b' (`torch.optim.RMSprop`).

    Without momentum it is Caffe's, which knows none.
    """

    slots: ClassVar = ("mean_square", "momentum")

    def move(self, op: Ops, w: Value, g: Value, slots: Slots, scalars: Scalars) -> Moved:
        h, b = slots
        h = _mean_square(op, h, g, self.solver.rms_decay)
        scaled = op.Div(g, op.Add(op.Sqrt(h), op.scalar(self.solver.delta)))
        b = op.Add(op.Mul(b, op.scalar(self.solver.mu)), scaled)
        return op.Sub(w, op.Mul(b, scalars["rate"])), (h, b)


class PytorchAdam(Adam):
    """As Adam, but w' = w - lr·m̂ / (√v̂ + δ), m̂ = m'/(1-β₁ᵗ) and v̂ = v'/(1-β₂ᵗ).

    Kingma & Ba 2015, arXiv:1412.6980, Algorithm 1, and `torch.optim.Adam`.
    """

    scalars: ClassVar = ("rate", "first", "second")

    def feeds(self, rate: float, iteration: int) -> dict[str, float]:
        """1/(1-β₁ᵗ) and 1/√(1-β₂ᵗ) beside the rate: computed here, in double precision."""
        t = iteration + 1
        first = 1 / (1 - self.solver.mu**t)
        second = 1 / sqrt(1 - self.solver.momentum2**t)
        return {"rate": rate, "first": first, "second": second}

    def move(self, op: Ops, w: Value, g: Value, slots: Slots, scalars: Scalars) -> Moved:
        m, v = self.moments(op, g, slots)
        root = op.Add(op.Mul(op.Sqrt(v), scalars["second"]), op.scalar(self.solver.delta))
        rate = op.Mul(scalars["rate"], scalars["first"])
        return op.Sub(w, op.Div(op.Mul(m, rate), root)), (m, v)


class AdamW(PytorchAdam):
    """As PyTorch's Adam, but the penalty is no part of g: w' = (w - lr·λ·w) - lr·m̂ / (√v̂ + δ).

    Loshchilov & Hutter 2019, arXiv:1711.05101, and `torch.optim.AdamW`.
    """

    def update(
        self, op: Ops, w: Value, g: Value, slots: Slots, scalars: Scalars, *, decay: float
    ) -> Moved:
        if decay:
            w = op.Sub(w, op.Mul(self.pull(op, w, decay), scalars["rate"]))
        return self.move(op, w, g, slots, scalars)


def _mean_square(op: Ops, mean: Value, x: Value, decay: float) -> Value:
    """decay·mean + (1 - decay)·x²."""
    squared = op.Mul(op.Mul(x, x), op.scalar(1 - decay))
    moved: Value = op.Add(op.Mul(mean, op.scalar(decay)), squared)
    return moved


def _scaled(op: Ops, g: Value, h: Value, rate: Value, delta: float) -> Value:
    """rate·g / (√h + delta)."""
    step: Value = op.Div(op.Mul(g, rate), op.Add(op.Sqrt(h), op.scalar(delta)))
    return step


SOLVERS: dict[str, type[UpdateRule]] = {
    "SGD": SGD,
    "Nesterov": Nesterov,
    "AdaGrad": AdaGrad,
    "RMSProp": RMSProp,
    "AdaDelta": AdaDelta,
    "Adam": Adam,
    "AdamW": AdamW,
}
"""By the word that `solver { type: … }` takes."""

PYTORCH: dict[str, type[UpdateRule]] = {
    "SGD": PytorchSGD,
    "Nesterov": PytorchNesterov,
    "RMSProp": PytorchRMSProp,
    "Adam": PytorchAdam,
}
"""With `arithmetic: PYTORCH`, those that differ."""


def update_rule(solver: Solver) -> UpdateRule:
    """The rule that a solver section asks for."""
    rules = SOLVERS | PYTORCH if solver.arithmetic == "PYTORCH" else SOLVERS
    return rules[solver.type](solver)
