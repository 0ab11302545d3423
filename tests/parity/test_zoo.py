"""What a bundled spec predicts is what PyTorch predicts with the same weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from netspec.compiler import Spec, compile_spec, elaborate
from netspec.ir.layer import Role

torch: Any = pytest.importorskip("torch")
nn = torch.nn
pytestmark = pytest.mark.parity

CLOSE = 1e-4
"""‖ours - theirs‖ / ‖theirs‖ of the scores, and the same of their largest entries."""
BATCH = 2


@dataclass(frozen=True)
class Case:
    """A spec and its twin; `weights` says whether the spec is as wide as it is published."""

    name: str
    twin: str
    options: dict[str, Any] = field(default_factory=dict)
    weights: bool = True

    def __str__(self) -> str:
        return self.name


CASES = [
    Case("lenet", "LeNet"),
    Case("resnet20", "ResNet20"),
    Case("resnet18", "ResNet18"),
    Case("resnet50", "ResNet50"),
    Case("squeezenet1_1", "SqueezeNet"),
    Case("googlenet", "GoogLeNet"),
    Case("densenet121", "DenseNet121"),
    Case("vgg11", "VGG11", {"cells": 1}),
    Case("nin", "NIN"),
    Case("mobilenet_v1", "MobileNet"),
    Case("mobilenet_v2", "MobileNetV2"),
    Case("resnext50_32x4d", "ResNeXt50"),
    pytest.param(Case("wide_resnet50_2", "WideResNet50"), marks=pytest.mark.slow),
    Case("se_resnet50", "SEResNet50"),
    Case("senet154", "SENet154", {"width": 8, "groups": 8, "stages": (3, 8, 2, 3)}, weights=False),
    Case("wrn_28_10", "WideResNet28", {"k": 2}, weights=False),
    Case("cifar10_quick", "CIFAR10Quick"),
    Case("fcn8s", "FCN8s", {"width": 8, "hidden": 64}, weights=False),
    Case("unet", "UNet", {"width": 8}, weights=False),
    Case("localizer", "Localizer"),
    Case("siamese", "Siamese"),
    Case("triplet", "FaceNet", {"cells": 2, "hidden": 64}, weights=False),
    Case("maxout_net", "MaxoutNet"),
    Case("rotation_invariant", "Turned"),
    Case("speech1d", "Speech"),
    Case("text1d", "Sentences"),
]


def seeded(twin: Any) -> Any:
    """A twin with weights that keep the size of signals, and statistics as of a training."""
    torch.manual_seed(1)
    for module in twin.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.1)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.1)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return twin.eval()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_scores(case: Case, small: Callable[..., Spec], twin_of: Callable[..., Any]) -> None:
    theirs = seeded(twin_of(case.twin, **case.options))
    spec = small(case.name, weights=not case.weights)
    nets = elaborate(spec, batch=BATCH)
    net, whole = nets.test.net, nets.train.net
    statistics = [t for t in theirs.buffers() if t.is_floating_point()]
    tensors = {
        **dict(zip((p.name for p in whole.parameters), theirs.parameters(), strict=True)),
        **dict(zip(whole.statistics, statistics, strict=True)),
    }
    named = [*(p.name for p in net.parameters), *net.statistics]
    weights = {name: tensors[name].detach().numpy() for name in named}
    scores = [node.bottoms[0] for node in net.nodes if node.layer.role is Role.LOSS]
    made = compile_spec(spec, weights=weights, batch=BATCH, outputs=scores)
    x = np.random.default_rng(1).normal(size=(BATCH, *net.inputs["data"].sample))
    x = x.astype(np.float32)
    session = ort.InferenceSession(
        made.model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    with torch.no_grad():
        found = theirs(torch.from_numpy(x))
    wanted = found if isinstance(found, tuple) else (found,)
    for ours, expected in zip(session.run(scores, {"data": x}), wanted, strict=True):
        expected = expected.numpy()
        difference = ours.reshape(expected.shape) - expected
        assert np.linalg.norm(difference) <= CLOSE * np.linalg.norm(expected)
        assert np.abs(difference).max() <= CLOSE * np.abs(expected).max()
