"""Caffe's solvers and policies against traces worked out from its sources, in place and apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from netspec.codegen.accumulate import accumulate_graph
from netspec.codegen.emit import emit
from netspec.codegen.solvers import update_rule
from netspec.codegen.update import UpdateStep, WeightGroup, update_graph
from netspec.ir.schedule import Course, learning_rate
from netspec.ir.sections import Solver
from netspec.runtime.device import Device
from netspec.runtime.session import make_session
from netspec.runtime.state import Binding

TRACES = Path(__file__).parents[3] / "shared/corpus/conformance/solver_updates_derived.json"
DERIVED: dict[str, Any] = json.loads(TRACES.read_text()) if TRACES.exists() else {}
pytestmark = pytest.mark.skipif(not DERIVED, reason="../shared/corpus is not here")

CASES = {case["name"]: case for case in DERIVED.get("cases", ())}
POLICIES: dict[str, Any] = {
    "fixed": {},
    "step": {"gamma": 0.1, "stepsize": 100},
    "exp": {"gamma": 0.99},
    "inv": {"gamma": 0.0001, "power": 0.75},
    "multistep": {"gamma": 0.1, "stepvalue": (50, 150, 400)},
    "poly": {"power": 0.75},
    "sigmoid": {"gamma": -0.05, "stepsize": 100},
}
"""The fields that the file tells in words."""
CPU = Device("cpu")
State = dict[str, npt.NDArray[np.float32]]


def solver_of(case: dict[str, Any]) -> Solver:
    """The traces' settings: lr .1, momentum .9 and weight decay .01 unless the case has others."""
    stepped = (
        {"lr_policy": "step", "gamma": 0.1, "stepsize": 2} if "step gamma" in case["name"] else {}
    )
    return Solver.model_validate({
        "type": case["kind"], "base_lr": case.get("lr", 0.1), "momentum": case.get("mom", 0.9),
        "weight_decay": 0.01, "regularization_type": case.get("reg", "L2"),
        "clip_gradients": case.get("clip", -1), "iter_size": case.get("iter_size", 1),
        "delta": case.get("delta", 1e-8), "max_iter": 4, **stepped,
    })  # fmt: skip


class Walk:
    """One weight under a solver, with the gradients of every batch of an iteration alike."""

    def __init__(self, solver: Solver, group: WeightGroup, *, in_place: bool) -> None:
        self.rule, self.in_place = update_rule(solver), in_place
        self.batches = [
            accumulate_graph([group], [], solver.iter_size, first=first) for first in (True, False)
        ]
        self.update = update_graph([group], [], self.rule)
        names = ("weights:0", "gradients:0", *(f"{slot}:0" for slot in self.rule.slots))
        self.state: State = {name: np.zeros(1, np.float32) for name in names}
        self.state["weights:0"][:] = DERIVED["w0"]

    def step(self, gradient: float, iteration: int) -> float:
        """The weight after an iteration whose batches all have `gradient`."""
        solver = self.rule.solver
        summed = np.array([gradient], np.float32)
        if solver.iter_size > 1:
            one = {"gradients:0": summed, "finite": np.array(1, np.float32)}
            total: State = {}
            for i in range(solver.iter_size):
                total = run(self.batches[i > 0], one | total, in_place=self.in_place)
            assert total["sound"] == 1
            summed = total["total:0"]
        fed = self.state | {"gradients:0": summed, "finite": np.array(1, np.float32)}
        rate = learning_rate(solver, iteration, Course(4))
        scalars = self.rule.feeds(rate, iteration)
        fed |= {name: np.array(number, np.float32) for name, number in scalars.items()}
        self.state |= run(self.update, fed, in_place=self.in_place)
        return float(self.state["weights:0"][0])


def run(step: UpdateStep, fed: State, *, in_place: bool) -> State:
    """What a graph makes, by the names of what it replaces; in place where there is a place."""
    made = {}
    for value, name in step.names.items():
        old = name.removeprefix("next:")
        takes = in_place and value in step.aliases
        made[name] = fed[old] if takes else np.full(value.type.shape, 99, np.float32)
    addresses = {name: array.ctypes.data for name, array in {**fed, **made}.items()}
    model = emit(step.graph, names=step.names, check=True)
    Binding(make_session(model, CPU), CPU, addresses).run()
    return {name.removeprefix("next:"): array for name, array in made.items()}


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_every_trace_is_walked(name: str, in_place: bool) -> None:
    case = CASES[name]
    group = WeightGroup("0", 1, case.get("lr_mult", 1.0), case.get("decay_mult", 1.0))
    walk = Walk(solver_of(case), group, in_place=in_place)
    walked = [walk.step(g, iteration) for iteration, g in enumerate(DERIVED["grads"])]
    np.testing.assert_allclose(walked, case["w"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_is_caffes(policy: str) -> None:
    solver = Solver(base_lr=0.01, lr_policy=policy, max_iter=1000, **POLICIES[policy])
    for iteration, rate in DERIVED["lr_policy"]["values"][policy].items():
        assert learning_rate(solver, int(iteration), Course(1000)) == pytest.approx(rate, rel=1e-12)


def test_nothing_of_the_file_is_left_out() -> None:
    assert POLICIES.keys() == DERIVED["lr_policy"]["values"].keys()
    kinds = {case["kind"] for case in CASES.values()}
    assert kinds == {"SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"}
