"""More nets of `specs/`, written once more in PyTorch as torchvision writes them.

Parameters and statistics are in the order of the spec, so that they pair up by place.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class VGG(nn.Sequential):
    """Simonyan and Zisserman 2015, table 1; the last pool leaves `cells` x `cells`."""

    def __init__(self, stages: Iterable[int], cells: int = 7) -> None:
        layers: list[nn.Module] = []
        channels = 3
        for width, count in zip((64, 128, 256, 512, 512), stages, strict=True):
            for _ in range(count):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        super().__init__(
            *layers, nn.Flatten(),
            nn.Linear(512 * cells**2, 4096), nn.ReLU(), nn.Dropout(),
            nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(),
            nn.Linear(4096, 1000),
        )  # fmt: skip


class VGG11(VGG):
    """Column A."""

    def __init__(self, cells: int = 7) -> None:
        super().__init__((1, 1, 2, 2, 2), cells)


class VGG16(VGG):
    """Column D."""

    def __init__(self) -> None:
        super().__init__((2, 2, 3, 3, 3))


class NIN(nn.Sequential):
    """Lin, Chen, Yan 2014; the model for ImageNet of Caffe's zoo, with Caffe's pooling."""

    def __init__(self) -> None:
        super().__init__(
            *_mlpconv(3, 96, 96, 11, stride=4), nn.MaxPool2d(3, 2, ceil_mode=True),
            *_mlpconv(96, 256, 256, 5, padding=2), nn.MaxPool2d(3, 2, ceil_mode=True),
            *_mlpconv(256, 384, 384, 3, padding=1), nn.MaxPool2d(3, 2, ceil_mode=True),
            nn.Dropout(),
            *_mlpconv(384, 1024, 1000, 3, padding=1), *_mean(),
        )  # fmt: skip


def _mlpconv(
    inputs: int, width: int, scores: int, kernel: int, stride: int = 1, padding: int = 0
) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(inputs, width, kernel, stride, padding), nn.ReLU(),
        nn.Conv2d(width, width, 1), nn.ReLU(),
        nn.Conv2d(width, scores, 1), nn.ReLU(),
    )  # fmt: skip


class MobileNet(nn.Sequential):
    """Howard et al. 2017, table 1."""

    def __init__(self) -> None:
        layers = [_conv_bn(3, 32, 3, 2), nn.ReLU()]
        channels = 32
        for width, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
                              *[(512, 1)] * 5, (1024, 2), (1024, 1)):  # fmt: skip
            layers += [_conv_bn(channels, channels, 3, stride, channels), nn.ReLU()]
            layers += [_conv_bn(channels, width, 1), nn.ReLU()]
            channels = width
        super().__init__(*layers, *_mean(), nn.Linear(1024, 1000))


class MobileNetV2(nn.Sequential):
    """Sandler et al. 2018, table 2."""

    def __init__(self) -> None:
        layers = [_conv_bn(3, 32, 3, 2), nn.ReLU6()]
        channels = 32
        for expand, width, count, stride in (
            (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
            (6, 160, 3, 2), (6, 320, 1, 1),
        ):  # fmt: skip
            for i in range(count):
                layers.append(_Inverted(channels, width, expand, 1 if i else stride))
                channels = width
        layers += [_conv_bn(channels, 1280, 1), nn.ReLU6()]
        super().__init__(*layers, *_mean(), nn.Dropout(0.2), nn.Linear(1280, 1000))


class _Inverted(nn.Module):
    def __init__(self, inputs: int, outputs: int, expand: int, stride: int) -> None:
        super().__init__()
        wide = expand * inputs
        self.body = nn.Sequential(
            *([_conv_bn(inputs, wide, 1), nn.ReLU6()] if expand > 1 else []),
            _conv_bn(wide, wide, 3, stride, wide), nn.ReLU6(),
            _conv_bn(wide, outputs, 1),
        )  # fmt: skip
        self.residual = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        body: Tensor = self.body(x)
        return x + body if self.residual else body


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // 16)
        self.excite = nn.Linear(channels // 16, channels)

    def forward(self, x: Tensor) -> Tensor:
        factors = torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3))))))
        return x * factors[:, :, None, None]


class Bottleneck(nn.Module):
    """1x1 to `first` channels, 3x3 to `second`, 1x1 to `outputs`; `early` strides in the first."""

    def __init__(
        self, inputs: int, first: int, second: int, outputs: int, stride: int,
        *, groups: int = 1, early: bool = False, gated: bool = False, projection: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        before, within = (stride, 1) if early else (1, stride)
        self.body = nn.Sequential(
            _conv_bn(inputs, first, 1, before), nn.ReLU(),
            _conv_bn(first, second, 3, within, groups), nn.ReLU(),
            _conv_bn(second, outputs, 1),
            *([Gate(outputs)] if gated else []),
        )  # fmt: skip
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else _conv_bn(inputs, outputs, projection, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


class ResNet50(nn.Sequential):
    """He et al. 2016, table 1, with bottlenecks of another width, in groups, or gated."""

    def __init__(self, width: int, *, groups: int = 1, early: bool = False, gated: bool = False):
        layers = [_conv_bn(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        channels = 64
        for stage, count in enumerate((3, 4, 6, 3)):
            narrow, outputs = width * 2**stage, 256 * 2**stage
            for i in range(count):
                stride = 2 if stage and not i else 1
                layers.append(
                    Bottleneck(
                        channels, narrow, narrow, outputs, stride,
                        groups=groups, early=early, gated=gated,
                    )
                )  # fmt: skip
                channels = outputs
        super().__init__(*layers, *_mean(), nn.Linear(2048, 1000))


class ResNeXt50(ResNet50):
    """Xie et al. 2017, table 1: 32 groups of 4 channels."""

    def __init__(self) -> None:
        super().__init__(128, groups=32)


class WideResNet50(ResNet50):
    """Zagoruyko and Komodakis 2016: twice as wide within."""

    def __init__(self) -> None:
        super().__init__(128)


class SEResNet50(ResNet50):
    """Hu et al. 2018, as Caffe strides."""

    def __init__(self) -> None:
        super().__init__(64, early=True, gated=True)


class SENet154(nn.Sequential):
    """Hu et al. 2018, appendix; narrower and shallower if told so."""

    def __init__(
        self, width: int = 64, groups: int = 64, stages: Iterable[int] = (3, 8, 36, 3)
    ) -> None:
        layers = [
            _conv_bn(3, width, 3, 2), nn.ReLU(), _conv_bn(width, width, 3), nn.ReLU(),
            _conv_bn(width, 2 * width, 3), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True),
        ]  # fmt: skip
        channels = 2 * width
        for stage, count in enumerate(stages):
            outputs = 4 * width * 2**stage
            for i in range(count):
                stride = 2 if stage and not i else 1
                layers.append(
                    Bottleneck(
                        channels, outputs // 2, outputs, outputs, stride,
                        groups=groups, gated=True, projection=3 if stage else 1,
                    )
                )  # fmt: skip
                channels = outputs
        super().__init__(*layers, *_mean(), nn.Dropout(0.2), nn.Linear(channels, 1000))


class WideResNet28(nn.Module):
    """Zagoruyko and Komodakis 2016, table 1, n = 4; normalised before each convolution."""

    def __init__(self, k: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        blocks, channels = [], 16
        for width, stride in ((16 * k, 1), (32 * k, 2), (64 * k, 2)):
            for i in range(4):
                blocks.append(_Preactivated(channels, width, 1 if i else stride))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.blocks(self.conv1(x))))
        scores: Tensor = self.fc(x.mean((2, 3)))
        return scores


class _Preactivated(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = None
        if inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.norm1(x))
        body: Tensor = self.conv2(F.relu(self.norm2(self.conv1(active))))
        return body + (x if self.shortcut is None else self.shortcut(active))


class CIFAR10Quick(nn.Sequential):
    """Caffe's `cifar10_quick_train_test.prototxt`."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 32, 5, padding=2), nn.MaxPool2d(3, 2, ceil_mode=True), nn.ReLU(),
            nn.Conv2d(32, 32, 5, padding=2), nn.ReLU(), nn.AvgPool2d(3, 2, ceil_mode=True),
            nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.AvgPool2d(3, 2, ceil_mode=True),
            nn.Flatten(), nn.Linear(1024, 64), nn.Linear(64, 10),
        )  # fmt: skip


def _conv_bn(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


def _mean() -> tuple[nn.Module, ...]:
    return nn.AdaptiveAvgPool2d(1), nn.Flatten()
