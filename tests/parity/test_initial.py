"""What `init-check` says of each layer, against PyTorch's autograd on the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netspec.compiler import elaborate, read
from netspec.ir.initial import initial_weights
from netspec.training.trials.initial import initial_check

torch: Any = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

NET = """
data "train" { source: "samples.npz"  batch_size: 24  shuffle: false  transform { scale: 1/255 } }
input "data" { shape: 3x9x9 }
conv "conv" { num_output: 12  kernel_size: 3  weight_filler { type: msra }
              bias_filler { type: gaussian  mean: -1.5 } }
relu "relu" { top: "conv" }
fc "ip" { num_output: 7  weight_filler { type: gaussian  std: 1 } }
tanh
fc "scores" { num_output: 4  weight_filler { type: gaussian  std: 2 } }
sigmoid
softmax_loss
"""


def test_moments_and_shares_are_pytorchs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (24, 3, 9, 9), np.uint8), rng.integers(0, 4, 24)
    np.savez(tmp_path / "samples.npz", data=images, label=labels)
    path = tmp_path / "net.net"
    path.write_text(NET)
    spec = read(str(path))
    drawn = initial_weights(elaborate(spec).train.net, 5)
    w = {name: torch.from_numpy(array) for name, array in drawn.items()}
    f = torch.nn.functional
    x = torch.from_numpy(images).float() / 255
    made = {"conv": f.conv2d(x, w["conv.weight"], w["conv.bias"]).requires_grad_()}
    made["relu"] = f.relu(made["conv"])
    made["ip"] = f.linear(made["relu"].flatten(1), w["ip.weight"], w["ip.bias"])
    made["tanh1"] = torch.tanh(made["ip"])
    made["scores"] = f.linear(made["tanh1"], w["scores.weight"], w["scores.bias"])
    made["sigmoid1"] = torch.sigmoid(made["scores"])
    for value in made.values():
        value.retain_grad()
    loss = f.cross_entropy(made["sigmoid1"], torch.from_numpy(labels))
    loss.backward()
    found = initial_check(spec, seed=5)
    rows = {row.name: row for row in found.layers}
    assert rows["data"].mean == pytest.approx(float(x.mean()), rel=1e-5)
    for name, value in made.items():
        row = rows[name]
        ours = [row.mean, row.deviation, row.gradient_mean, row.gradient_deviation]
        theirs = [
            float(moment)
            for x in (value.detach(), value.grad)
            for moment in (x.mean(), x.std(correction=0))
        ]
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-7), name
    made = {name: value.detach() for name, value in made.items()}
    dead = (made["relu"].amax((0, 2, 3)) == 0).float().mean()
    assert 0 < rows["relu"].resting == pytest.approx(float(dead))
    for name, slope in (
        ("tanh1", 1 - made["tanh1"] ** 2),
        ("sigmoid1", 4 * made["sigmoid1"] * (1 - made["sigmoid1"])),
    ):
        flat = (slope < 0.05).float().mean()
        assert 0 < rows[name].resting == pytest.approx(float(flat)), name
    assert found.losses[0].loss == pytest.approx(loss.item(), rel=1e-5)
