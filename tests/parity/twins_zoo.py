"""The nets of the benchmarks, written once more in PyTorch by hand, as `twins.py` does it.

They train as the specs do in phase TRAIN: with their dropout, normalisation and auxiliary heads;
ReLU works in place, as in torchvision's models. Parameters are in the order of the spec.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Scores = Tensor | tuple[Tensor, ...]


def loss(scores: Scores, labels: Tensor) -> Tensor:
    """Cross entropy, and 0.3 times that of each auxiliary classifier."""
    first, *others = scores if isinstance(scores, tuple) else (scores,)
    total = F.cross_entropy(first, labels)
    for other in others:
        total = total + 0.3 * F.cross_entropy(other, labels)
    return total


class LeNetReLU(nn.Sequential):
    """`benchmarks/nets/lenet_relu.net`."""

    def __init__(self) -> None:
        super().__init__(
            _conv(1, 20, 5), nn.MaxPool2d(2), _conv(20, 50, 5), nn.MaxPool2d(2),
            nn.Flatten(), _fc(800, 500), nn.Linear(500, 10),
        )  # fmt: skip


class VGG6(nn.Sequential):
    """`benchmarks/nets/vgg6.net`."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        channels = 3
        for width in (32, 64, 128):
            layers += [_conv(channels, width, 3, padding=1), _conv(width, width, 3, padding=1)]
            layers.append(nn.MaxPool2d(2))
            channels = width
        super().__init__(*layers, nn.Flatten(), _fc(128 * 16, 256), nn.Linear(256, 10))


class Depthwise(nn.Sequential):
    """`benchmarks/nets/depthwise.net`."""

    def __init__(self) -> None:
        widths = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)]
        layers = [_conv_bn(3, 32, 3, 2), _relu()]
        channels = 32
        for width, stride in widths:
            layers += [_conv_bn(channels, channels, 3, stride, groups=channels), _relu()]
            layers += [_conv_bn(channels, width, 1), _relu()]
            channels = width
        super().__init__(*layers, *_mean(), nn.Linear(channels, 10))


class AlexNet(nn.Sequential):
    """Caffe's `bvlc_alexnet`: in groups of two, normalised before it is pooled."""

    def __init__(self) -> None:
        super().__init__(
            _conv(3, 96, 11, stride=4), _lrn(), _pool(),
            _conv(96, 256, 5, padding=2, groups=2), _lrn(), _pool(),
            _conv(256, 384, 3, padding=1),
            _conv(384, 384, 3, padding=1, groups=2),
            _conv(384, 256, 3, padding=1, groups=2), _pool(),
            nn.Flatten(),
            _fc(256 * 36, 4096), nn.Dropout(0.5),
            _fc(4096, 4096), nn.Dropout(0.5),
            nn.Linear(4096, 1000),
        )  # fmt: skip


class ResNet(nn.Sequential):
    """He et al. 2016, table 1, for ImageNet; the stride of a bottleneck in its 3x3 convolution."""

    def __init__(self, stages: Iterable[int], *, bottleneck: bool) -> None:
        layers = [_conv_bn(3, 64, 7, 2), _relu(), nn.MaxPool2d(3, 2, 1)]
        channels = 64
        for stage, count in enumerate(stages):
            for i in range(count):
                stride = 2 if stage and not i else 1
                layers.append(_Residual(channels, 64 * 2**stage, stride, bottleneck=bottleneck))
                channels = 64 * 2**stage * (4 if bottleneck else 1)
        super().__init__(*layers, *_mean(), nn.Linear(channels, 1000))


class _Residual(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int, *, bottleneck: bool) -> None:
        super().__init__()
        if bottleneck:
            self.body = nn.Sequential(
                _conv_bn(inputs, width, 1), _relu(),
                _conv_bn(width, width, 3, stride), _relu(),
                _conv_bn(width, 4 * width, 1),
            )  # fmt: skip
        else:
            self.body = nn.Sequential(
                _conv_bn(inputs, width, 3, stride), _relu(), _conv_bn(width, width, 3)
            )
        outputs = 4 * width if bottleneck else width
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else _conv_bn(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x), inplace=True)


class ResNet18(ResNet):
    """Two basic blocks a stage."""

    def __init__(self) -> None:
        super().__init__((2, 2, 2, 2), bottleneck=False)


class ResNet50(ResNet):
    """Bottlenecks."""

    def __init__(self) -> None:
        super().__init__((3, 4, 6, 3), bottleneck=True)


class ResNet152(ResNet):
    """Bottlenecks, three times as many."""

    def __init__(self) -> None:
        super().__init__((3, 8, 36, 3), bottleneck=True)


class SqueezeNet(nn.Sequential):
    """DeepScale's `SqueezeNet_v1.1`, with Caffe's pooling."""

    def __init__(self) -> None:
        super().__init__(
            _conv(3, 64, 3, stride=2), _pool(),
            _Fire(64, 16, 64), _Fire(128, 16, 64), _pool(),
            _Fire(128, 32, 128), _Fire(256, 32, 128), _pool(),
            _Fire(256, 48, 192), _Fire(384, 48, 192), _Fire(384, 64, 256), _Fire(512, 64, 256),
            nn.Dropout(0.5), _conv(512, 1000, 1), *_mean(),
        )  # fmt: skip


class _Fire(nn.Module):
    def __init__(self, inputs: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = _conv(inputs, squeeze, 1)
        self.one = _conv(squeeze, expand, 1)
        self.three = _conv(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x)
        return torch.cat([self.one(x), self.three(x)], 1)


class GoogLeNet(nn.Module):
    """Szegedy et al. 2015, table 1, Caffe's pooling; in training with both auxiliary scores."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            _conv(3, 64, 7, stride=2, padding=3), _pool(), _lrn(),
            _conv(64, 64, 1), _conv(64, 192, 3, padding=1), _lrn(), _pool(),
            _Module(192, 64, 96, 128, 16, 32, 32), _Module(256, 128, 128, 192, 32, 96, 64),
            _pool(), _Module(480, 192, 96, 208, 16, 48, 64),
        )  # fmt: skip
        self.aux1 = _classifier(512)
        self.middle = nn.Sequential(
            _Module(512, 160, 112, 224, 24, 64, 64), _Module(512, 128, 128, 256, 24, 64, 64),
            _Module(512, 112, 144, 288, 32, 64, 64),
        )  # fmt: skip
        self.aux2 = _classifier(528)
        self.last = nn.Sequential(
            _Module(528, 256, 160, 320, 32, 128, 128), _pool(),
            _Module(832, 256, 160, 320, 32, 128, 128), _Module(832, 384, 192, 384, 48, 128, 128),
            *_mean(), nn.Dropout(0.4), nn.Linear(1024, 1000),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Scores:
        early = self.stem(x)
        middle = self.middle(early)
        scores: Tensor = self.last(middle)
        return (scores, self.aux1(early), self.aux2(middle)) if self.training else scores


class _Module(nn.Module):
    """The columns of table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj."""

    def __init__(
        self, inputs: int, n1: int, reduce3: int, n3: int, reduce5: int, n5: int, proj: int
    ) -> None:
        super().__init__()
        pool = nn.MaxPool2d(3, 1, 1, ceil_mode=True)
        self.branches = nn.ModuleList([
            _conv(inputs, n1, 1),
            nn.Sequential(_conv(inputs, reduce3, 1), _conv(reduce3, n3, 3, padding=1)),
            nn.Sequential(_conv(inputs, reduce5, 1), _conv(reduce5, n5, 5, padding=2)),
            nn.Sequential(pool, _conv(inputs, proj, 1)),
        ])  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def _classifier(inputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.AvgPool2d(5, 3, ceil_mode=True), _conv(inputs, 128, 1), nn.Flatten(),
        _fc(2048, 1024), nn.Dropout(0.7), nn.Linear(1024, 1000),
    )  # fmt: skip


class DenseNet(nn.Sequential):
    """Huang et al. 2017, table 1: DenseNet-BC, a growth of 32."""

    def __init__(self, stages: Iterable[int]) -> None:
        stem = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        layers = [stem, nn.BatchNorm2d(64), _relu(), nn.MaxPool2d(3, 2, 1)]
        channels = 64
        for stage, count in enumerate(stages):
            if stage:
                layers += [_bn_conv(channels, channels // 2, 1), nn.AvgPool2d(2)]
                channels //= 2
            for _ in range(count):
                layers.append(_Dense(channels, 32))
                channels += 32
        layers += [nn.BatchNorm2d(channels), _relu()]
        super().__init__(*layers, *_mean(), nn.Linear(channels, 1000))


class DenseNet121(DenseNet):
    """Fifty-eight dense layers."""

    def __init__(self) -> None:
        super().__init__((6, 12, 24, 16))


class DenseNet201(DenseNet):
    """Ninety-eight."""

    def __init__(self) -> None:
        super().__init__((6, 12, 48, 32))


class _Dense(nn.Module):
    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_bn_conv(inputs, 4 * growth, 1), _bn_conv(4 * growth, growth, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


def _conv(
    inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0, groups: int = 1
) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=padding, groups=groups)
    return nn.Sequential(conv, _relu())


def _conv_bn(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    conv = nn.Conv2d(
        inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False
    )
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


def _bn_conv(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(nn.BatchNorm2d(inputs), _relu(), conv)


def _fc(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs), _relu())


def _relu() -> nn.Module:
    return nn.ReLU(inplace=True)


def _lrn() -> nn.Module:
    return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)


def _pool() -> nn.Module:
    return nn.MaxPool2d(3, 2, ceil_mode=True)


def _mean() -> tuple[nn.Module, ...]:
    return nn.AdaptiveAvgPool2d(1), nn.Flatten()
