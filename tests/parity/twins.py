"""Nets of `specs/` written once more in PyTorch by hand, from their papers and Caffe's rules.

Parameters and statistics are in the order of the spec, so that they pair up by place.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LeNet(nn.Module):
    """Caffe's `lenet_train_test.prototxt`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.ip1 = nn.Linear(800, 500)
        self.ip2 = nn.Linear(500, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.conv1(x), 2)
        x = F.max_pool2d(self.conv2(x), 2)
        scores: Tensor = self.ip2(F.relu(self.ip1(x.flatten(1))))
        return scores


class ResNet20(nn.Module):
    """He et al. 2016, section 4.2, n = 3, the shortcuts projected where a stage begins."""

    def __init__(self, *, relu: bool = True) -> None:
        super().__init__()
        self.stem = _conv_bn(3, 16, 3)
        widths = [(16, 16, 1), (16, 16, 1), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 32, 1),
                  (32, 64, 2), (64, 64, 1), (64, 64, 1)]  # fmt: skip
        self.blocks = nn.Sequential(*(_Basic(*width, relu=relu) for width in widths))
        self.fc = nn.Linear(64, 10)
        self.activation = F.relu if relu else _same

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.activation(self.stem(x)))
        scores: Tensor = self.fc(x.mean((2, 3)))
        return scores


class _Basic(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, *, relu: bool) -> None:
        super().__init__()
        self.first = _conv_bn(inputs, outputs, 3, stride)
        self.second = _conv_bn(outputs, outputs, 3)
        self.shortcut = _conv_bn(inputs, outputs, 1, stride) if stride > 1 else nn.Identity()
        self.activation = F.relu if relu else _same

    def forward(self, x: Tensor) -> Tensor:
        body = self.second(self.activation(self.first(x)))
        return self.activation(body + self.shortcut(x))


class Inception(nn.Module):
    """The net of `test_training.py`: Szegedy et al. 2015, figure 2b, twice; Caffe's pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 5, stride=2, padding=2)
        self.a = _Module(16, 8, (6, 12), (2, 4), 4)
        self.b = _Module(28, 10, (8, 14), (2, 6), 6)
        self.fc = nn.Linear(36, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 3, 2, ceil_mode=True)
        x = F.local_response_norm(x, 5, alpha=0.01, beta=0.75, k=1.0)
        x = F.avg_pool2d(self.a(x), 3, 2, ceil_mode=True)
        scores: Tensor = self.fc(self.b(x).mean((2, 3)))
        return scores


class _Module(nn.Module):
    def __init__(
        self, inputs: int, n1: int, n3: tuple[int, int], n5: tuple[int, int], proj: int
    ) -> None:
        super().__init__()
        self.one = nn.Conv2d(inputs, n1, 1)
        self.three = nn.ModuleList([nn.Conv2d(inputs, n3[0], 1), nn.Conv2d(*n3, 3, padding=1)])
        self.five = nn.ModuleList([nn.Conv2d(inputs, n5[0], 1), nn.Conv2d(*n5, 5, padding=2)])
        self.proj = nn.Conv2d(inputs, proj, 1)

    def forward(self, x: Tensor) -> Tensor:
        three, five = x, x
        for conv in self.three:
            three = F.relu(conv(three))
        for conv in self.five:
            five = F.relu(conv(five))
        pooled = F.relu(self.proj(F.max_pool2d(x, 3, 1, 1, ceil_mode=True)))
        return torch.cat([F.relu(self.one(x)), three, five, pooled], 1)


def _conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


def _same(x: Tensor) -> Tensor:
    return x


def statistics(twin: nn.Module) -> list[Tensor]:
    """Running means and variances, without PyTorch's counters."""
    return [tensor for tensor in twin.buffers() if tensor.is_floating_point()]


def set_weights(twin: nn.Module, arrays: list[Any]) -> None:
    """Overwrite the parameters, in order."""
    parameters = list(twin.parameters())
    assert [tuple(p.shape) for p in parameters] == [a.shape for a in arrays]
    with torch.no_grad():
        for parameter, array in zip(parameters, arrays, strict=True):
            parameter.copy_(torch.from_numpy(array))
