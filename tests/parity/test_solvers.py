"""Solvers against PyTorch's, step by step from PyTorch's own state."""

from __future__ import annotations

from collections.abc import Sequence
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
EPS = 1e-6

OURS: dict[str, dict[str, Any]] = {
    "SGD, Caffe": {"type": "SGD", "momentum": 0.9},
    "SGD": {"type": "SGD", "momentum": 0.9, "arithmetic": "PYTORCH"},
    "SGD without momentum": {"type": "SGD", "arithmetic": "PYTORCH"},
    "Nesterov, Caffe": {"type": "Nesterov", "momentum": 0.9},
    "Nesterov": {"type": "Nesterov", "momentum": 0.9, "arithmetic": "PYTORCH"},
    "AdaGrad": {"type": "AdaGrad"},
    "RMSProp, Caffe": {"type": "RMSProp"},
    "RMSProp": {"type": "RMSProp", "momentum": 0.9, "arithmetic": "PYTORCH"},
    "AdaDelta": {"type": "AdaDelta", "momentum": 0.9},
    "Adam": {"type": "Adam", "arithmetic": "PYTORCH"},
    "AdamW": {"type": "AdamW"},
}
"""Caffe's arithmetic is in it where the walk is the same at a constant rate."""


def optimizer(kind: str, w: Any, decay: float) -> Any:
    """PyTorch's, with the settings of ours."""
    optim = torch.optim
    match kind.removesuffix(", Caffe"):
        case "SGD without momentum":
            return optim.SGD([w], RATE, weight_decay=decay)
        case "SGD" | "Nesterov" as type:
            nesterov = type == "Nesterov"
            return optim.SGD([w], RATE, momentum=0.9, weight_decay=decay, nesterov=nesterov)
        case "AdaGrad":
            return optim.Adagrad([w], RATE, eps=EPS, weight_decay=decay)
        case "RMSProp":
            momentum = 0 if kind.endswith("Caffe") else 0.9
            return optim.RMSprop([w], RATE, 0.99, EPS, decay, momentum)
        case "AdaDelta":
            return optim.Adadelta([w], RATE, rho=0.9, eps=EPS, weight_decay=decay)
        case "Adam":
            return optim.Adam([w], RATE, betas=(0.9, 0.999), eps=EPS, weight_decay=decay)
    assert kind == "AdamW"
    return optim.AdamW([w], RATE, betas=(0.9, 0.999), eps=EPS, weight_decay=decay)


THEIRS = {
    "momentum": "momentum_buffer", "squares": "sum", "mean_square": "square_avg",
    "mean_square_step": "acc_delta", "m": "exp_avg", "v": "exp_avg_sq",
}  # fmt: skip
"""What PyTorch calls our slots."""


def memory(kind: str, slots: Sequence[str], state: dict[str, Any]) -> dict[str, Any]:
    """PyTorch's state as our slots: at a constant rate Caffe's momentum is lr times its buffer."""
    factors = {"momentum": RATE} if kind.endswith("Caffe") else {}
    kept = {slot: state.get(THEIRS[slot]) for slot in slots}
    zeros = torch.zeros(COUNT)
    return {n: zeros if k is None else factors.get(n, 1) * k for n, k in kept.items()}


@pytest.mark.parametrize("penalty", ["L2", "L1"])
@pytest.mark.parametrize("kind", OURS)
def test_each_step_is_pytorchs(kind: str, penalty: str) -> None:
    """PyTorch's optimizers know no L1: there the penalty is in the loss, and autograd finds it.

    That of AdamW is none of the loss; there λ·sign(w) is taken off by hand, as it does with λ·w.
    """
    fields = {"base_lr": RATE, "weight_decay": DECAY, "max_iter": 1, "delta": EPS, **OURS[kind]}
    rule = update_rule(Solver.model_validate({"regularization_type": penalty, **fields}))
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
    slots = [slot for slot in rule.slots if f"{slot}:0" in fed and kind != "SGD without momentum"]
    for iteration in range(STEPS):
        g = torch.randn(COUNT) * 10.0 ** torch.randint(-4, 3, ())
        w.grad = g.clone()
        fed["weights:0"][:] = w.detach()
        fed["gradients:0"][:] = g
        if penalty == "L1" and kind != "AdamW":
            (DECAY * w.abs().sum()).backward()
        for slot, values in memory(kind, slots, theirs.state[w]).items():
            fed[f"{slot}:0"][:] = values
        for name, value in rule.feeds(RATE, iteration).items():
            fed[name][...] = value
        binding.run()
        if penalty == "L1" and kind == "AdamW":
            w.data -= RATE * DECAY * w.data.sign()
        theirs.step()
        expected = {"weights": w.detach(), **memory(kind, slots, theirs.state[w])}
        for name, values in expected.items():
            assert np.allclose(fed[f"{name}:0"], values, rtol=1e-5, atol=1e-5), (name, iteration)


@pytest.mark.parametrize("kind", ["SGD", "Nesterov"])
def test_a_falling_rate_tells_the_two_apart(kind: str) -> None:
    """PyTorch's memory shrinks with the rate, Caffe's keeps the size of its steps."""
    moved = {}
    for arithmetic in ("CAFFE", "PYTORCH"):
        solver = Solver(type=kind, base_lr=1, momentum=0.5, arithmetic=arithmetic, max_iter=1)
        step = update_graph([WeightGroup("0", 1)], [], update_rule(solver), guarded=False)
        fed = {name: np.zeros(1, np.float32) for name in ("weights:0", "momentum:0")}
        fed |= {"gradients:0": np.ones(1, np.float32), "rate": np.array(1, np.float32)}
        addresses = {name: array.ctypes.data for name, array in fed.items()}
        addresses |= {f"next:{name}": pointer for name, pointer in addresses.items()}
        binding = Binding(make_session(emit(step.graph, names=step.names), CPU), CPU, addresses)
        for fed["rate"][...], fed["gradients:0"][...] in ((1, 1), (0.1, 0)):
            binding.run()
        moved[arithmetic] = float(fed["weights:0"][0])
    w = torch.zeros(1, requires_grad=True)
    theirs = torch.optim.SGD([w], 1.0, momentum=0.5, nesterov=kind == "Nesterov")
    for theirs.param_groups[0]["lr"], g in ((1.0, 1.0), (0.1, 0.0)):
        w.grad = torch.full((1,), g)
        theirs.step()
    assert moved["PYTORCH"] == pytest.approx(float(w.detach()))
    assert moved["CAFFE"] < moved["PYTORCH"]
