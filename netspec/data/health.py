"""What a look at every sample tells of a data set, before a network sees them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from math import prod, sqrt

import numpy as np

from netspec.data.dataset import Array, Dataset
from netspec.data.files.image import strict
from netspec.diagnostics import DataError
from netspec.ir.types import Shape, size
from netspec.wording import counted

LABEL = "label"
_FEWEST = 10
"""How many times as many samples as the smallest class the largest may have without a word."""
_SHOWN = 5
"""Samples that a warning names."""


@dataclass
class Channels:
    """Moments of every channel of an array, over all samples; features are one channel."""

    count: int = 0
    sums: Array = field(default_factory=lambda: np.zeros(1))
    squares: Array = field(default_factory=lambda: np.zeros(1))
    least: Array = field(default_factory=lambda: np.full(1, np.inf))
    most: Array = field(default_factory=lambda: np.full(1, -np.inf))

    def add(self, sample: Array) -> None:
        """One sample more, C x … or of a single axis."""
        values = sample.reshape(len(sample) if sample.ndim > 1 else 1, -1).astype(np.float64)
        self.count += values.shape[1]
        self.sums = self.sums + values.sum(axis=1)
        self.squares = self.squares + np.einsum("ci,ci->c", values, values)
        self.least = np.minimum(self.least, values.min(axis=1))
        self.most = np.maximum(self.most, values.max(axis=1))

    @property
    def means(self) -> list[float]:
        """x̄ = Σx / n of each channel."""
        return [float(total) / self.count for total in self.sums]

    @property
    def deviations(self) -> list[float]:
        """√(Σx² / n - x̄²) of each channel."""
        pairs = zip(self.squares, self.means, strict=True)
        return [sqrt(max(0.0, float(square) / self.count - mean**2)) for square, mean in pairs]

    @property
    def constant(self) -> list[int]:
        """The channels in which all values are the same."""
        return [int(channel) for channel in np.flatnonzero(self.least == self.most)]


@dataclass(frozen=True)
class SplitHealth:
    """Of one split."""

    split: str
    dataset: Dataset
    sizes: Counter[Shape]
    """Images by their shape as stored; empty for what is no image."""
    channels: Mapping[tuple[str, int], Channels]
    """By array, and the number of its channels: images may be of one and of three."""
    labels: Counter[int]
    """Samples by class; empty without class labels."""
    unreadable: Sequence[str]
    """What is wrong with samples that cannot be read."""
    pixels: Mapping[bytes, Sequence[int]]
    """The samples of each content, by a hash of it."""

    @property
    def classes(self) -> dict[int, str]:
        """Every class that there should be, with its name."""
        names = self.dataset.classes
        last = max([len(names) - 1, *self.labels])
        return {i: names[i] if 0 <= i < len(names) else str(i) for i in range(last + 1)}

    def name(self, sample: int) -> str:
        """What to call a sample."""
        for lazy in self.dataset.streamed.values():
            return lazy.name(sample)
        return f"{self.split} sample {sample:,}"


def examine(split: str, dataset: Dataset) -> SplitHealth:
    """Look at every sample of a data set, whose images need not be of one size."""
    sizes: Counter[Shape] = Counter()
    channels: dict[tuple[str, int], Channels] = {}
    unreadable: list[str] = []
    pixels: dict[bytes, list[int]] = {}
    names = [name for name in dataset.shapes if name != LABEL]
    with strict():
        for row in range(len(dataset)):
            try:
                sample = {name: _sample(dataset, name, row) for name in names}
            except DataError as error:
                unreadable.append(str(error))
                continue
            for name, array in sample.items():
                key = (name, len(array) if array.ndim > 1 else 1)
                channels.setdefault(key, Channels()).add(array)
            first = sample[names[0]]
            if first.ndim == 3:
                sizes[first.shape] += 1
            pixels.setdefault(_hash(sample), []).append(row)
    labels = dataset.arrays.get(LABEL)
    counted: Counter[int] = Counter()
    if labels is not None and labels.ndim == 1 and labels.dtype.kind in "iu":
        counted = Counter(labels.tolist())
    return SplitHealth(split, dataset, sizes, channels, counted, unreadable, pixels)


def _sample(dataset: Dataset, name: str, row: int) -> Array:
    """A sample as it is stored, with an axis at least."""
    lazy = dataset.streamed.get(name)
    found = dataset.arrays[name][row] if lazy is None else lazy.natural(row)
    return np.atleast_1d(found)


def _hash(sample: Mapping[str, Array]) -> bytes:
    total = blake2b(digest_size=16)
    for name, array in sample.items():
        total.update(f"{name} {array.shape} {array.dtype}".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.digest()


def oddities(splits: Sequence[SplitHealth]) -> list[str]:
    """What should be looked at, a line each."""
    found = [line for health in splits for line in _of_one(health)]
    return [*found, *_shared(splits)]


def _of_one(health: SplitHealth) -> Iterator[str]:
    split = health.split
    if health.unreadable:
        yield f"{split}: {counted(len(health.unreadable), 'sample')} cannot be read: " + "; ".join(
            _first(health.unreadable)
        )
    if len(health.sizes) > 1:
        yield f"{split}: images of {len(health.sizes):,} shapes, and training takes them of one"
    for (name, _), channels in health.channels.items():
        if channels.constant:
            which = ", ".join(map(str, channels.constant))
            yield f"{split}: all values of `{name}` are the same in channel {which}"
    yield from _labels(health)
    yield from _copies(health)


def _labels(health: SplitHealth) -> Iterator[str]:
    split, labels = health.split, health.labels
    if not labels:
        return
    if absent := [name for label, name in health.classes.items() if not labels[label]]:
        yield f"{split}: no samples of {counted(len(absent), 'class')}: {', '.join(_first(absent))}"
    if negative := sum(count for label, count in labels.items() if label < 0):
        yield f"{split}: {counted(negative, 'label')} below 0"
    largest, smallest = max(labels.values()), min(labels.values())
    if largest > _FEWEST * smallest:
        most = counted(largest, "sample")
        yield f"{split}: the largest class has {most}, the smallest {smallest:,}"


def _copies(health: SplitHealth) -> Iterator[str]:
    """Samples of the same content, and those of them whose labels differ."""
    groups = [rows for rows in health.pixels.values() if len(rows) > 1]
    if not groups:
        return
    copies = sum(len(rows) - 1 for rows in groups)
    pairs = [f"{health.name(rows[0])} = {health.name(rows[1])}" for rows in groups]
    yield f"{health.split}: {counted(copies, 'copy')} of other samples: {'; '.join(_first(pairs))}"
    labels = health.dataset.arrays.get(LABEL)
    if labels is None:
        return
    torn = [rows for rows in groups if (labels[rows] != labels[rows[0]]).any()]
    if torn:
        named = [" = ".join(map(health.name, rows[:2])) for rows in torn]
        yield (
            f"{health.split}: {counted(len(torn), 'sample')} under several labels: "
            f"{'; '.join(_first(named))}"
        )


def _shared(splits: Sequence[SplitHealth]) -> Iterator[str]:
    """Samples of the test that were trained on."""
    if len(splits) < 2:
        return
    train, test = splits
    both = [key for key in test.pixels if key in train.pixels]
    if both:
        count = sum(len(test.pixels[key]) for key in both)
        pairs = [
            f"{test.name(test.pixels[key][0])} = {train.name(train.pixels[key][0])}" for key in both
        ]
        share = f"{count:,} of the {len(test.dataset):,} test samples"
        yield f"{share} are in the training data: {'; '.join(_first(pairs))}"


def _first(texts: Sequence[str]) -> list[str]:
    more = [f"and {len(texts) - _SHOWN:,} more"] if len(texts) > _SHOWN else []
    return [*texts[:_SHOWN], *more]


def extremes(sizes: Counter[Shape]) -> dict[str, str]:
    """The smallest, largest and most common shape of images."""
    if not sizes:
        return {}
    by_area = sorted(sizes, key=lambda shape: (prod(shape[1:]), shape))
    common, count = sizes.most_common(1)[0]
    return {
        "smallest": size(by_area[0]),
        "largest": size(by_area[-1]),
        "most common": f"{size(common)} ({count:,})",
    }
