"""Half precision beside PyTorch: gradients in float64, and the scale of its GradScaler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netspec.codegen.emit import emit
from netspec.codegen.scaling import LossScaling
from netspec.compiler import elaborate, read
from netspec.ir.sections import DataSection, Solver
from netspec.runtime.device import Device
from netspec.runtime.session import make_session
from netspec.training.execution.executor import Executor

torch: Any = pytest.importorskip("torch")
F = torch.nn.functional
pytestmark = pytest.mark.parity

NET = """
input "data" { shape: 3x12x12 }
conv "a" { num_output: 8  kernel_size: 3  pad: 1 }
batch_norm "n"
tanh
conv "b" { num_output: 6  kernel_size: 3  stride: 2 }
tanh
deconv "c" { num_output: 4  kernel_size: 2  stride: 2 }
sigmoid
fc "d" { num_output: 5 }
softmax_loss
"""
BATCH = 8
UNIT = 2.0**-11
"""How much of a number float16 may lose."""


def theirs(w: dict[str, Any], x: Any, label: Any) -> Any:
    y = F.conv2d(x, w["a.weight"], w["a.bias"], padding=1)
    y = F.batch_norm(y, None, None, w["n.weight"], w["n.bias"], training=True, eps=1e-5)
    y = torch.tanh(F.conv2d(torch.tanh(y), w["b.weight"], w["b.bias"], stride=2))
    y = torch.sigmoid(F.conv_transpose2d(y, w["c.weight"], w["c.bias"], stride=2))
    return F.cross_entropy(F.linear(y.flatten(1), w["d.weight"], w["d.bias"]), label)


@pytest.mark.parametrize("small", [1.0, 1e-6])
def test_gradients_are_those_of_float64_but_for_what_float16_loses(
    small: float, tmp_path: Path
) -> None:
    """With a loss so small that without the scale float16 would make zeros of most."""
    path = tmp_path / "net.net"
    path.write_text(NET.replace("softmax_loss", f"softmax_loss {{ loss_weight: {small} }}"))
    net = elaborate(read(str(path)), batch=BATCH).train.net
    solver = Solver(base_lr=1e-6, max_iter=1, precision="FP16", loss_scale=2.0**16)
    data = DataSection(source="noise", batch_size=BATCH)
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "data": rng.standard_normal((BATCH, 3, 12, 12)).astype(np.float32),
        "label": rng.integers(0, 5, BATCH),
    }
    on = Executor(
        net.model_copy(update={"solver": solver, "data": data}), None, arrays, None,
        device="cpu", seed=3,
    )  # fmt: skip
    before = on.state().weights
    result = on.step(0, np.arange(BATCH), 1e-6)
    assert result.finite
    w = {n: torch.from_numpy(a).double().requires_grad_() for n, a in before.items()}
    loss = theirs(w, torch.from_numpy(arrays["data"]).double(), torch.from_numpy(arrays["label"]))
    (small * loss).backward()
    assert result.loss == pytest.approx(small * loss.item(), rel=4 * UNIT)
    # The cotangent of a bias before a batch normalisation is zero.
    for name, ours in on.held.summed_gradients().items():
        exact = w[name].grad.numpy()
        scale = np.linalg.norm(w["a.weight"].grad) if name == "a.bias" else np.linalg.norm(exact)
        assert np.linalg.norm(ours - exact) <= 8 * UNIT * scale, name


def test_the_scale_is_that_of_grad_scaler() -> None:
    """Through overflows of every distance, and growth between them."""
    rng = np.random.default_rng(5)
    finite = [bool(f) for f in rng.random(200) < 0.8]
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30, growth_interval=3)
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], 0.0)
    step = LossScaling(2.0**30, 3).update_graph()
    session = make_session(emit(step.graph, names=step.names), Device("cpu"))
    names = [port.name for port in session.get_outputs()]
    state = {"scale": np.array(2.0**30, np.float32), "good": np.array(0, np.float32)}
    for sound in finite:
        weight.grad = torch.full((1,), 1.0 if sound else float("inf"))
        scaler.scale(torch.zeros(1))
        scaler.step(optimizer)
        scaler.update()
        made = session.run(names, {**state, "finite": np.array(sound, np.float32)})
        state = {n.removeprefix("next:"): a for n, a in zip(names, made, strict=True)}
        assert float(state["scale"]) == scaler.get_scale() > 1
        assert int(state["good"]) == scaler._get_growth_tracker()
