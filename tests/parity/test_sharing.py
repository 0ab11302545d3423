"""Shared weights, weights of another shape, and stopped gradients against torch's autograd."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netspec.codegen.target import CPU_PLAIN, Target
from netspec.compiler import elaborate, read
from netspec.training.execution.executor import Executor
from netspec.training.execution.targets import find_target

torch: Any = pytest.importorskip("torch")
F = torch.nn.functional
pytestmark = pytest.mark.parity

RATE, DECAY = 0.1, 0.01
TARGETS = list(dict.fromkeys([find_target("cpu").target, CPU_PLAIN]))
each_target = pytest.mark.parametrize("target", TARGETS, ids=str)
Weights = dict[str, Any]

HEAD = """
data "train" { source: "?"  batch_size: 4 }
input "data" { shape: 6x5x5 }
"""
SOLVER = f"""
softmax_loss
solver {{ base_lr: 1  weight_decay: {DECAY}  clip_gradients: CLIP  max_iter: 1 }}
"""

SHARED = """
conv "a" { num_output: 6  kernel_size: 3  pad: 1  bias_term: false  param { name: "w" } }
relu
conv "b" {
  num_output: 6  kernel_size: 3  pad: 1  bias_term: false
  param { name: "w"  lr_mult: 2 }
}
pool { pool: AVE  global_pooling: true }
"""
PERMISSIVE = """
conv "a" { num_output: 8  kernel_size: 1  bias_term: false  param { name: "w" } }
tanh
conv "b" {
  num_output: 6  kernel_size: 1  bias_term: false
  param { name: "w"  share_mode: PERMISSIVE  decay_mult: 0 }
}
pool { pool: AVE  global_pooling: true }
"""
STOPPED = """
conv "a" { num_output: 6  kernel_size: 3  pad: 1  bias_term: false }
tanh "t"
conv "b" { num_output: 6  kernel_size: 1  bias_term: false  propagate_down: false }
eltwise { bottom: "t"  bottom: "b"  propagate_down: [STOP, true] }
pool { pool: AVE  global_pooling: true }
"""


def shared(x: Any, w: Weights) -> Any:
    x = F.conv2d(F.relu(F.conv2d(x, w["w"], padding=1)), w["w"], padding=1)
    return x.mean((2, 3))


def permissive(x: Any, w: Weights) -> Any:
    x = torch.tanh(F.conv2d(x, w["w"]))
    return F.conv2d(x, w["w"].reshape(6, 8, 1, 1)).mean((2, 3))


def stopped(stop: str) -> Callable[[Any, Weights], Any]:
    def scores(x: Any, w: Weights) -> Any:
        t = torch.tanh(F.conv2d(x, w["a.weight"], padding=1))
        b = F.conv2d(t.detach(), w["b.weight"])
        return ((t.detach() if stop == "false" else t) + b).mean((2, 3))

    return scores


CASES: dict[str, tuple[str, Callable[[Any, Weights], Any], float, float]] = {
    "shared": (SHARED, shared, 2, 1),
    "permissive": (PERMISSIVE, permissive, 1, 0),
    "stopped": (STOPPED.replace("STOP", "true"), stopped("true"), 1, 1),
    "stopped twice": (STOPPED.replace("STOP", "false"), stopped("false"), 1, 1),
}
"""Layers, the same in torch, and the multipliers of every weight."""


@each_target
@pytest.mark.parametrize("clip", [-1, 0.01])
@pytest.mark.parametrize("name", CASES)
def test_one_step_is_pytorchs(name: str, clip: float, target: Target, tmp_path: Path) -> None:
    """Gradients of what is shared are summed, and a clipped norm counts it once."""
    text, scores, lr_mult, decay_mult = CASES[name]
    path = tmp_path / "net.net"
    path.write_text(HEAD + text + SOLVER.replace("CLIP", str(clip)))
    net = elaborate(read(str(path))).train.net
    rng = np.random.default_rng(0)
    images = rng.normal(size=(4, 6, 5, 5)).astype(np.float32)
    labels = rng.integers(0, 6, 4)
    ours = Executor(
        net, None, {"data": images, "label": labels}, None, device="cpu", seed=1, target=target
    )
    before = {n: torch.from_numpy(w) for n, w in ours.state().weights.items()}
    loss = ours.step(0, np.arange(4), RATE).loss

    weights = {n: w.clone().requires_grad_() for n, w in before.items()}
    theirs = F.cross_entropy(scores(torch.from_numpy(images), weights), torch.from_numpy(labels))
    theirs.backward()
    assert loss == pytest.approx(float(theirs.detach()), rel=1e-5)
    for w in weights.values():
        w.grad = torch.zeros_like(w) if w.grad is None else w.grad
    if clip > 0:
        assert torch.nn.utils.clip_grad_norm_(weights.values(), clip) > clip, "that says nothing"
    after = ours.state().weights
    for n, w in weights.items():
        step = RATE * lr_mult * (w.grad + DECAY * decay_mult * before[n])
        np.testing.assert_allclose(after[n], before[n] - step, rtol=1e-5, atol=1e-6, err_msg=n)
    unreached = ("a.weight",) if name == "stopped twice" else ()
    assert ours.unreached == unreached
