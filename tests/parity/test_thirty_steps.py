"""Every solver by every policy and penalty over thirty steps, against PyTorch's optimizers."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
from schedulers import LENGTH, POLICIES, RATE, rates

from netspec.codegen.emit import emit
from netspec.codegen.solvers import UpdateRule, update_rule
from netspec.codegen.update import WeightGroup, update_graph
from netspec.ir.schedule import Course, learning_rate
from netspec.ir.sections import Solver
from netspec.runtime.device import Device
from netspec.runtime.session import make_session
from netspec.runtime.state import Binding
from netspec.training.plateau import Plateau

torch: Any = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

COUNT, STEPS, EPS, DECAY = 512, 30, 1e-4, 0.02
CPU = Device("cpu")
Array: TypeAlias = npt.NDArray[Any]

KINDS: dict[str, dict[str, Any]] = {
    "SGD": {"type": "SGD", "momentum": 0.9},
    "SGD PYTORCH": {"type": "SGD", "momentum": 0.9},
    "SGD without momentum": {"type": "SGD"},
    "Nesterov": {"type": "Nesterov", "momentum": 0.9},
    "Nesterov PYTORCH": {"type": "Nesterov", "momentum": 0.9},
    "AdaGrad": {"type": "AdaGrad"},
    "RMSProp": {"type": "RMSProp"},
    "RMSProp PYTORCH": {"type": "RMSProp", "momentum": 0.9},
    "AdaDelta": {"type": "AdaDelta", "momentum": 0.9},
    "Adam": {"type": "Adam"},
    "Adam PYTORCH": {"type": "Adam"},
    "AdamW": {"type": "AdamW"},
}
"""Caffe's arithmetic unless it says otherwise."""
SCORES = [0.5, 0.6, 0.6, 0.6, 0.7, *[0.7] * 25]
"""Of a test after each iteration, for plateau."""
PLATEAU = {"gamma": 0.5, "patience": 1}


def optimizer(kind: str, w: Any, decay: float) -> Any:
    """PyTorch's, with the settings of ours."""
    optim, momentum = torch.optim, KINDS[kind].get("momentum", 0)
    match kind.split()[0]:
        case "SGD":
            return optim.SGD([w], RATE, momentum, weight_decay=decay)
        case "Nesterov":
            return optim.SGD([w], RATE, momentum, weight_decay=decay, nesterov=True)
        case "AdaGrad":
            return optim.Adagrad([w], RATE, eps=EPS, weight_decay=decay)
        case "RMSProp":
            return optim.RMSprop([w], RATE, 0.99, EPS, decay, momentum)
        case "AdaDelta":
            return optim.Adadelta([w], RATE, 0.9, EPS, decay)
        case "Adam":
            return optim.Adam([w], RATE, eps=EPS, weight_decay=decay)
    return optim.AdamW([w], RATE, eps=EPS, weight_decay=decay)


class Theirs:
    """A walk of PyTorch's in float64, where Caffe's arithmetic is put into its terms.

    Caffe's momentum holds lr·g, so it is PyTorch's at a rate of 1 on a gradient that has lr and
    the penalty in it. Caffe's Adam has δ beside √v', and PyTorch's ε beside √v' / √(1-β₂ᵗ): ε is
    δ / √(1-β₂ᵗ). L1, which PyTorch lacks, is added to the gradient, and taken off by hand where
    AdamW has it.
    """

    def __init__(self, kind: str, penalty: str, start: Array) -> None:
        self.kind, self.l1 = kind, DECAY if penalty == "L1" else 0.0
        self.l2 = DECAY if penalty == "L2" else 0.0
        self.outside = kind in ("SGD", "Nesterov")
        self.w = torch.tensor(start, dtype=torch.float64, requires_grad=True)
        self.optimizer = optimizer(kind, self.w, 0.0 if self.outside else self.l2)

    def step(self, iteration: int, rate: float, slope: Array, noise: Array) -> Array:
        """The weights after an iteration, by the gradient slope · w + noise."""
        w, (group,) = self.w, self.optimizer.param_groups
        g, group["lr"] = torch.tensor(slope) * w.detach() + torch.tensor(noise), rate
        if self.kind == "AdamW":
            w.data -= rate * self.l1 * w.data.sign()
        else:
            g = g + self.l1 * w.detach().sign()
        if self.outside:
            g, group["lr"] = rate * (g + self.l2 * w.detach()), 1.0
        if self.kind == "Adam":
            group["eps"] = EPS / (1 - 0.999 ** (iteration + 1)) ** 0.5
        w.grad = g
        self.optimizer.step()
        found: Array = w.detach().numpy()
        return found


def fields(kind: str, penalty: str) -> dict[str, Any]:
    said = {**KINDS[kind], "base_lr": RATE, "max_iter": LENGTH, "delta": EPS}
    if kind.endswith("PYTORCH") or "without" in kind:
        said["arithmetic"] = "PYTORCH"
    if penalty != "none":
        said |= {"weight_decay": DECAY, "regularization_type": penalty}
    return said


@cache
def ours(kind: str, penalty: str) -> tuple[UpdateRule, dict[str, Any], Binding]:
    """The update, loaded once for all policies, and the arrays that it works on."""
    rule = update_rule(Solver.model_validate(fields(kind, penalty)))
    step = update_graph([WeightGroup("0", COUNT)], [], rule, guarded=False)
    model = emit(step.graph, names=step.names)
    fed = {
        port.name: np.zeros([d.dim_value for d in port.type.tensor_type.shape.dim], np.float32)
        for port in model.graph.input
    }
    addresses = {name: array.ctypes.data for name, array in fed.items()}
    addresses |= {f"next:{name}": pointer for name, pointer in addresses.items()}
    return rule, fed, Binding(make_session(model, CPU), CPU, addresses)


@cache
def pytorchs_rates(policy: str) -> list[float]:
    if policy == "one_cycle":
        return rates(torch, lambda lr, o: lr.OneCycleLR(o, RATE, LENGTH, cycle_momentum=False))
    if policy != "plateau":
        return rates(torch, POLICIES[policy][1])
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], RATE)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", 0.5, 1)
    found = []
    for score in SCORES:
        found.append(float(optimizer.param_groups[0]["lr"]))
        scheduler.step(score)
    return found


@pytest.mark.parametrize("policy", [*POLICIES, "one_cycle", "plateau"])
@pytest.mark.parametrize("penalty", ["none", "L2", "L1"])
@pytest.mark.parametrize("kind", KINDS)
def test_thirty_steps_are_pytorchs(kind: str, penalty: str, policy: str) -> None:
    """To 1e-5 of the weights' norm, down a bowl whose gradient is noisy."""
    rule, fed, binding = ours(kind, penalty)
    own = {**POLICIES, "plateau": (PLATEAU, None)}.get(policy, ({}, None))[0]
    word = policy.partition(" ")[0]
    solver = Solver.model_validate({**fields(kind, penalty), "lr_policy": word, **own})
    for array in fed.values():
        array[...] = 0
    rng, state = np.random.default_rng(0), Plateau()
    start = rng.normal(size=COUNT).astype(np.float32)
    slope, noise = rng.uniform(0.1, 1, COUNT), rng.normal(size=(STEPS, COUNT))
    fed["weights:0"][:] = start
    walked = Theirs(kind, penalty, start)
    for iteration, theirs in enumerate(pytorchs_rates(policy)[:STEPS]):
        rate = learning_rate(solver, iteration, Course(LENGTH, reductions=state.reductions))
        assert rate == pytest.approx(theirs, rel=1e-12)
        state = state.tested(SCORES[iteration], solver, higher=True, warming_up=False)
        fed["gradients:0"][:] = slope * fed["weights:0"] + noise[iteration]
        for name, number in rule.feeds(rate, iteration).items():
            fed[name][...] = number
        binding.run()
        wanted = walked.step(iteration, theirs, slope, noise[iteration])
    assert np.linalg.norm(fed["weights:0"] - wanted) <= 1e-5 * np.linalg.norm(wanted)
    assert np.linalg.norm(wanted - start) > 0.02 * np.linalg.norm(start)
