"""Mixup and CutMix against torch: losses, metrics and gradients of the papers' own loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netspec.codegen.mixing import Mix
from netspec.codegen.target import CPU_PLAIN, Target
from netspec.compiler import read
from netspec.training.execution.executor import Executor
from netspec.training.execution.mixture import drawn_mixture
from netspec.training.execution.targets import find_target
from netspec.training.setup.experiment import prepare

torch = pytest.importorskip("torch")
F = torch.nn.functional
pytestmark = pytest.mark.parity

TARGETS = list(dict.fromkeys([find_target("cpu").target, CPU_PLAIN]))
RNG = np.random.default_rng(5)
N, H, W = 6, 7, 10
IMAGES = RNG.integers(0, 256, (12, 3, H, W)).astype(np.uint8)
LABELS = RNG.integers(0, 4, 12)
BOXES = RNG.standard_normal((12, 2)).astype(np.float32)
RATE = 0.5
LAYERS = """
    conv "conv" { num_output: 16  kernel_size: 3  weight_filler { type: xavier } }
    relu
    fc "scores" { num_output: 4  weight_filler { type: xavier } }
    softmax_loss "loss" { label_smoothing: 0.1  class_weight: [1, 2, 0.5, 3] }
    accuracy "right"
    head "side" {
      fc "place" { num_output: 2  weight_filler { type: xavier } }
      euclidean_loss "far" { bottom: "place"  bottom: "box"  loss_weight: 0.3 }
    }
"""


def executor(folder: Path, fields: str, target: Target) -> Executor:
    np.savez(folder / "set.npz", data=IMAGES, label=LABELS, box=BOXES)
    path = folder / "net.net"
    path.write_text(
        f'data "train" {{ source: "set.npz"  batch_size: {N}  '
        f"transform {{ scale: 1/255  {fields} }} }}\n"
        f'input "data" {{ shape: 3x{H}x{W} }}\ninput "box" {{ shape: 2 }}\n{LAYERS}\n'
        f"solver {{ base_lr: {RATE}  max_iter: 9  random_seed: 3 }}\n"
    )
    experiment = prepare(read(str(path)))
    return Executor(
        experiment.nets.train.net, None, experiment.train.fed, None, device="cpu", seed=3,
        target=target,
    )  # fmt: skip


def theirs(
    weights: dict[str, Any], rows: Any, drawn: dict[str, Any]
) -> tuple[dict[str, float], dict[str, Any]]:
    """What the papers' code does with a batch: losses and accuracy, and each weight's gradient."""
    w = {n: torch.tensor(a, dtype=torch.float64, requires_grad=True) for n, a in weights.items()}
    x = torch.tensor(IMAGES[rows] / 255.0)
    partners = torch.tensor(drawn["partners"])
    share = float(drawn["share"])
    if "box" not in drawn or float(drawn.get("blend", 0)):
        x = share * x + (1 - share) * x[partners]
    else:
        top, left, bottom, right = (int(n) for n in drawn["box"])
        x = x.clone()
        x[:, :, top:bottom, left:right] = torch.tensor(IMAGES[rows] / 255.0)[
            partners, :, top:bottom, left:right
        ]
    x = F.relu(F.conv2d(x, w["conv.weight"], w["conv.bias"])).flatten(1)
    scores = F.linear(x, w["scores.weight"], w["scores.bias"])
    place = F.linear(scores, w["side/place.weight"], w["side/place.bias"])
    label, box = torch.tensor(LABELS[rows]), torch.tensor(BOXES[rows].astype(np.float64))
    weight = torch.tensor([1, 2, 0.5, 3], dtype=torch.float64)

    def both(criterion: Any, y: Any) -> Any:
        return share * criterion(y) + (1 - share) * criterion(y[partners])

    loss = both(lambda y: F.cross_entropy(scores, y, weight, label_smoothing=0.1), label)
    far = both(lambda b: ((place - b) ** 2).sum() / (2 * len(rows)), box)
    right = both(lambda y: (scores.argmax(1) == y).double().mean(), label)
    (loss + 0.3 * far).backward()
    return (
        {"loss": loss.item(), "far": far.item(), "right": right.item()},
        {name: value.grad.numpy() for name, value in w.items()},
    )


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize(
    "fields", ["mixup: 0.4", "cutmix: 1", "mixup: 0.2  cutmix: 1"], ids=lambda f: f.split(":")[0]
)
def test_losses_and_gradients(tmp_path: Path, fields: str, target: Target) -> None:
    on = executor(tmp_path, fields, target)
    mix = on._batch._mix  # type: ignore[union-attr]
    assert isinstance(mix, Mix)
    kinds, initial = set(), on.state()
    before = initial.weights
    for iteration in range(6):
        rows = RNG.permutation(12)[:N]
        drawn = drawn_mixture(mix, 3, iteration)
        kinds.add(bool(float(drawn.get("blend", 0))))
        on.restore(initial)
        found = on.step(iteration, rows, RATE)
        after = on.state().weights
        numbers, gradients = theirs(before, rows, drawn)
        for name, value in {**found.losses, **found.metrics}.items():
            assert value == pytest.approx(numbers[name.split("/")[-1]], rel=1e-5, abs=1e-6), name
        for name, gradient in gradients.items():
            ours = (before[name] - after[name]) / RATE
            assert np.abs(ours - gradient).max() < 2e-6 * max(1, np.abs(gradient).max()), name
    assert len(kinds) == (2 if "  " in fields else 1)
