"""A small V-Net over channels x depth x height x width: a step of training against PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netspec.codegen.target import CPU_PLAIN, Target
from netspec.compiler import elaborate, read
from netspec.ir.sections import DataSection, Solver
from netspec.training.execution.executor import Executor
from netspec.training.execution.targets import find_target

torch: Any = pytest.importorskip("torch")
F = torch.nn.functional
pytestmark = pytest.mark.parity

SPEC = """
input "data" { shape: 2x6x9x8 }
input "label" { shape: 1x6x9x8 }
conv "in" { num_output: 8  kernel_size: 3x5x3  pad: [1, 2, 1] }
batch_norm "norm"
concat "copies" { bottom: ["data", "data", "data", "data"] }
eltwise "sum" { bottom: ["norm", "copies"] }
prelu "seen"
conv "down" { num_output: 16  kernel_size: 2x3x2  stride: 2x3x2 }
prelu
residual { conv "deep" { num_output: 16  kernel_size: 3  pad: 1  group: 2 } }
deconv "up" { num_output: 8  kernel_size: 2x3x2  stride: 2x3x2 }
relu "large"
concat { bottom: ["large", "seen"] }
conv "score" { num_output: 3  kernel_size: 1 }
softmax_loss
"""
BATCH = 2
SETTINGS = {
    "data": DataSection(source="?", batch_size=BATCH),
    "solver": Solver(type="SGD", base_lr=1, momentum=0.9, max_iter=1),
}


def theirs(x: Any, labels: Any, w: dict[str, Any]) -> Any:
    """The loss by PyTorch."""

    def slid(name: str, x: Any, slide: Any = F.conv3d, **attrs: Any) -> Any:
        return slide(x, w[f"{name}.weight"], w[f"{name}.bias"], **attrs)

    first = slid("in", x, padding=(1, 2, 1))
    normal = F.batch_norm(first, None, None, w["norm.weight"], w["norm.bias"], training=True)
    seen = F.prelu(normal + torch.cat([x] * 4, 1), w["seen.weight"])
    small = F.prelu(slid("down", seen, stride=(2, 3, 2)), w["prelu2.weight"])
    small = small + slid("residual1/deep", small, padding=1, groups=2)
    large = F.relu(slid("up", small, F.conv_transpose3d, stride=(2, 3, 2)))
    return F.cross_entropy(slid("score", torch.cat([large, seen], 1)), labels[:, 0])


@pytest.mark.parametrize("target", dict.fromkeys([find_target("cpu").target, CPU_PLAIN]), ids=str)
def test_a_step_is_that_of_torch(target: Target, tmp_path: Path) -> None:
    spec = tmp_path / "volumes.net"
    spec.write_text(SPEC)
    net = elaborate(read(str(spec)), batch=BATCH).train.net.model_copy(update=SETTINGS)
    rng = np.random.default_rng(0)
    shape = net.inputs["data"].sample
    arrays = {
        "data": rng.standard_normal((BATCH, *shape)).astype(np.float32),
        "label": rng.integers(0, 3, (BATCH, 1, *shape[1:])),
    }
    executor = Executor(net, None, arrays, None, device="cpu", seed=1, target=target)
    weights = executor.state().weights
    tensors = {
        name: torch.tensor(np.array(w), dtype=torch.float64, requires_grad=True)
        for name, w in weights.items()
    }
    found = executor.step(0, np.arange(BATCH), 1.0).loss
    ours = executor.state().slots["momentum"]  # at a rate of 1, of the first step: the gradient
    data, label = (torch.from_numpy(arrays[name]) for name in ("data", "label"))
    loss = theirs(data.double(), label, tensors)
    assert found == pytest.approx(float(loss.detach()), rel=1e-5)
    for name, wanted in zip(
        tensors, torch.autograd.grad(loss, list(tensors.values())), strict=True
    ):
        norm = np.linalg.norm(wanted)
        if name == "in.bias":  # batch normalisation takes it away: its gradient is 0
            norm = np.linalg.norm(ours["in.weight"])
        assert np.linalg.norm(ours[name] - wanted.numpy()) <= 1e-5 * norm, name
