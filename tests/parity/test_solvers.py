"""Solvers against PyTorch's, step by step from PyTorch's own state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netspec.codegen.emit import emit
from netspec.codegen.solvers import update_rule
from netspec.codegen.update import WeightGroup, update_graph
from netspec.ir.sections import Solver
from netspec.runtime.device import Device
from netspec.runtime.session import make_session
from netspec.runtime.state import Binding

torch: Any = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

CPU = Device("cpu")
COUNT, STEPS, RATE, DECAY = 1024, 20, 0.05, 1e-2
FIELDS: dict[str, Any] = {"base_lr": RATE, "momentum": 0.9, "weight_decay": DECAY, "max_iter": 1}


def optimizer(kind: str, w: Any, decay: float) -> Any:
    if kind == "Adam":
        return torch.optim.Adam([w], RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=decay)
    nesterov = kind == "Nesterov"
    return torch.optim.SGD([w], RATE, momentum=0.9, weight_decay=decay, nesterov=nesterov)


def memory(kind: str, state: dict[str, Any]) -> dict[str, Any]:
    """PyTorch's state as our slots: at a constant rate our momentum is lr times its buffer."""
    zeros = torch.zeros(COUNT)
    if kind == "Adam":
        return {"m": state.get("exp_avg", zeros), "v": state.get("exp_avg_sq", zeros)}
    return {"momentum": RATE * state.get("momentum_buffer", zeros)}


@pytest.mark.parametrize("penalty", ["L2", "L1"])
@pytest.mark.parametrize("kind", ["SGD", "Nesterov", "Adam"])
def test_each_step_is_pytorchs(kind: str, penalty: str) -> None:
    """PyTorch's optimizers know no L1: there the penalty is in the loss, and autograd finds it."""
    rule = update_rule(Solver(type=kind, regularization_type=penalty, **FIELDS))
    step = update_graph([WeightGroup("0", COUNT)], [], rule)
    model = emit(step.graph, names=step.names)
    fed = {
        port.name: np.zeros([d.dim_value for d in port.type.tensor_type.shape.dim], np.float32)
        for port in model.graph.input
    }
    addresses = {name: array.ctypes.data for name, array in fed.items()}
    addresses |= {f"next:{name}": pointer for name, pointer in addresses.items()}
    fed["finite"][...] = 1
    binding = Binding(make_session(model, CPU), CPU, addresses)
    torch.manual_seed(0)
    w = torch.randn(COUNT, requires_grad=True)
    theirs = optimizer(kind, w, DECAY if penalty == "L2" else 0)
    for iteration in range(STEPS):
        g = torch.randn(COUNT) * 10.0 ** torch.randint(-4, 3, ())
        w.grad = g.clone()
        fed["weights:0"][:] = w.detach()
        fed["gradients:0"][:] = g
        if penalty == "L1":
            (DECAY * w.abs().sum()).backward()
        for slot, values in memory(kind, theirs.state[w]).items():
            fed[f"{slot}:0"][:] = values
        for name, value in rule.feeds(RATE, iteration).items():
            fed[name][...] = value
        binding.run()
        theirs.step()
        expected = {"weights": w.detach(), **memory(kind, theirs.state[w])}
        for name, values in expected.items():
            assert np.allclose(fed[f"{name}:0"], values, rtol=1e-5, atol=1e-5), (name, iteration)
