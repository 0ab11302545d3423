"""Nets of `specs/` that do more than classify images, written once more in PyTorch.

Parameters and statistics are in the order of the spec, so that they pair up by place.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from twins_zoo import ResNet18


class FCN8s(nn.Module):
    """Long, Shelhamer, Darrell 2015: the authors' voc-fcn8s, each class interpolated by itself."""

    def __init__(self, width: int = 64, hidden: int = 4096, classes: int = 21) -> None:
        super().__init__()
        self.to_pool3 = nn.Sequential(
            *_stage(2, 3, width, padding=100), *_stage(2, width, 2 * width),
            *_stage(3, 2 * width, 4 * width),
        )  # fmt: skip
        self.to_pool4 = nn.Sequential(*_stage(3, 4 * width, 8 * width))
        self.to_score = nn.Sequential(
            *_stage(3, 8 * width, 8 * width),
            nn.Conv2d(8 * width, hidden, 7), nn.ReLU(), nn.Dropout(),
            nn.Conv2d(hidden, hidden, 1), nn.ReLU(), nn.Dropout(),
            nn.Conv2d(hidden, classes, 1),
        )  # fmt: skip
        self.twice = _interpolate(classes, 2)
        self.score4 = nn.Conv2d(8 * width, classes, 1)
        self.again_twice = _interpolate(classes, 2)
        self.score3 = nn.Conv2d(4 * width, classes, 1)
        self.eightfold = _interpolate(classes, 8)

    def forward(self, x: Tensor) -> Tensor:
        pool3 = self.to_pool3(x)
        pool4 = self.to_pool4(pool3)
        scores = self.twice(self.to_score(pool4))
        scores = self.again_twice(scores + _cropped(self.score4(pool4), 5, scores))
        scores = self.eightfold(scores + _cropped(self.score3(pool3), 9, scores))
        return _cropped(scores, 31, x)


def _stage(count: int, inputs: int, width: int, padding: int = 1) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for i in range(count):
        layers.append(nn.Conv2d(width if i else inputs, width, 3, padding=1 if i else padding))
        layers.append(nn.ReLU())
    return [*layers, nn.MaxPool2d(2, ceil_mode=True)]


def _interpolate(classes: int, factor: int) -> nn.Module:
    return nn.ConvTranspose2d(classes, classes, 2 * factor, factor, groups=classes, bias=False)


def _cropped(x: Tensor, offset: int, like: Tensor) -> Tensor:
    height, width = like.shape[2:]
    return x[:, :, offset : offset + height, offset : offset + width]


class UNet(nn.Module):
    """Ronneberger et al. 2015, figure 1, padded."""

    def __init__(self, width: int = 64, depth: int = 4) -> None:
        super().__init__()
        widths = [width * 2**i for i in range(depth + 1)]
        self.down = nn.ModuleList(
            _double(before, after) for before, after in zip([1, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(_Up(width) for width in reversed(widths[:-1]))
        self.score = nn.Conv2d(width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen: list[Tensor] = []
        for i, down in enumerate(self.down):
            x = down(F.max_pool2d(x, 2) if i else x)
            seen.append(x)
        for up, skip in zip(self.up, reversed(seen[:-1]), strict=True):
            x = up(x, skip)
        scores: Tensor = self.score(x)
        return scores


class _Up(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(2 * width, width, 2, 2)
        self.convolutions = _double(2 * width, width)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        y: Tensor = self.convolutions(torch.cat([skip, self.up(x)], 1))
        return y


def _double(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
    )  # fmt: skip


class Siamese(nn.Sequential):
    """One trunk of Caffe's `mnist_siamese_train_test.prototxt`."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10), nn.Linear(10, 2),
        )  # fmt: skip


class FaceNet(nn.Module):
    """Schroff et al. 2015, table 1; the last pool leaves `cells` x `cells`."""

    def __init__(self, cells: int = 7, hidden: int = 4096) -> None:
        super().__init__()
        widths = [64, 192, 192, 384, 384, 256, 256, 256, 256, 256]
        layers: list[nn.Module] = [
            nn.Conv2d(3, 64, 7, 2, padding=3), nn.ReLU(), nn.MaxPool2d(3, 2, 1), _lrn(),
        ]  # fmt: skip
        channels = 64
        for i, width in enumerate(widths):
            kernel = 3 if i % 2 else 1
            layers += [nn.Conv2d(channels, width, kernel, padding=kernel // 2), nn.ReLU()]
            if i == 1:
                layers.append(_lrn())
            if i in (1, 3, 9):
                layers.append(nn.MaxPool2d(3, 2, 1))
            channels = width
        self.convolutions = nn.Sequential(*layers, nn.Flatten())
        self.fc1 = nn.Linear(256 * cells**2, 2 * hidden)
        self.fc2 = nn.Linear(hidden, 2 * hidden)
        self.fc7128 = nn.Linear(hidden, 128)

    def forward(self, x: Tensor) -> Tensor:
        x = self.convolutions(x)
        for hidden in (self.fc1, self.fc2):
            x = hidden(x).unflatten(1, (-1, 2)).amax(2)
        return F.normalize(self.fc7128(x))


def _lrn() -> nn.Module:
    return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)


class MaxoutNet(nn.Module):
    """Goodfellow et al. 2013: pylearn2's mnist.yaml, a bias for each map."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList([
            nn.Conv2d(1, 96, 8), nn.Conv2d(48, 96, 8, padding=3), nn.Conv2d(48, 96, 5, padding=3),
        ])  # fmt: skip
        self.fc = nn.Linear(24 * 9, 10)

    def forward(self, x: Tensor) -> Tensor:
        for conv, pieces, pool in zip(self.convolutions, (2, 2, 4), (4, 4, 2), strict=True):
            x = conv(x).unflatten(1, (-1, pieces)).amax(2)
            x = F.max_pool2d(x, pool, 2, ceil_mode=True)
        scores: Tensor = self.fc(x.flatten(1))
        return scores


class Localizer(nn.Module):
    """ResNet-18, and two layers that read what its last one would."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*list(ResNet18())[:-1])
        self.corners = nn.Linear(512, 4)
        self.scores = nn.Linear(512, 1000)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.trunk(x)
        return self.corners(x), self.scores(x)


class Turned(nn.Module):
    """Every filter in four turns, and the largest answer."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            [nn.Conv2d(1, 20, 5), nn.Conv2d(20, 40, 5), nn.Conv2d(40, 80, 3)]
        )
        self.fc = nn.Linear(80, 10)

    def forward(self, x: Tensor) -> Tensor:
        for i, conv in enumerate(self.convolutions):
            x = F.max_pool2d(x, 2) if i else x
            turns = [F.conv2d(x, conv.weight.rot90(k, (2, 3)), conv.bias) for k in range(4)]
            x = F.relu(torch.stack(turns).amax(0))
        scores: Tensor = self.fc(x.amax((2, 3)))
        return scores


class Speech(nn.Sequential):
    """Windows over time."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv1d(40, 128, 8), nn.ReLU(), nn.MaxPool1d(3, ceil_mode=True),
            nn.Conv1d(128, 128, 4), nn.ReLU(), nn.Flatten(),
            nn.Linear(128 * 28, 256), nn.ReLU(), nn.Dropout(), nn.Linear(256, 12),
        )  # fmt: skip


class Sentences(nn.Module):
    """Kim 2014, figure 1, one channel."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv1d(300, 100, width) for width in (3, 4, 5))
        self.fc = nn.Linear(300, 2)

    def forward(self, x: Tensor) -> Tensor:
        features = [F.relu(conv(x)).amax(2) for conv in self.convolutions]
        scores: Tensor = self.fc(torch.cat(features, 1))
        return scores
