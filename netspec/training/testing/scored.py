"""What a net said of every sample, beside what was true: shares, tables and errors from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BINS = 15
"""Of the calibration error, as Guo et al. have them."""
_SUM = 1e-3
"""How far from 1 the sum of float32 probabilities may be."""


@dataclass(frozen=True)
class ClassShare:
    """One class's part in the test."""

    index: int
    name: str
    count: int
    """Labels of this class."""
    precision: float
    """The share of right ones among those predicted to be of it; NaN if none were."""
    recall: float
    """The share of its labels that were predicted; NaN without labels."""


@dataclass(frozen=True)
class Mistake:
    """A sample that was taken for another class than its own."""

    sample: int
    """Its place in the data."""
    label: int
    predicted: int
    confidence: float
    """The score of the predicted class."""


@dataclass(frozen=True)
class Scored:
    """Scores of every class for N samples, and their labels; nothing that is to be ignored.

    Arrays are not copied, and nobody writes to them.
    """

    scores: NDArray[np.float32]
    """Probabilities or class scores, N x C."""
    labels: NDArray[np.int64]
    """The class of each, N."""
    classes: tuple[str, ...] = ()
    """The names of the classes, if they are known."""
    samples: NDArray[np.int64] | None = None
    """Where in the data each row comes from, N; None if rows are the samples in their order."""

    def __post_init__(self) -> None:
        assert self.labels.shape == self.scores.shape[:1], (self.labels.shape, self.scores.shape)
        assert self.samples is None or self.samples.shape == self.labels.shape

    @classmethod
    def of(
        cls,
        scores: NDArray[np.float32],
        labels: NDArray[np.int64],
        classes: Sequence[str] = (),
        ignore_label: int | None = None,
    ) -> Scored:
        """Of scores N x … x C and labels N x …, each position a row; ignored ones are left out."""
        rows, flat = scores.reshape(-1, scores.shape[-1]), labels.reshape(-1)
        samples = np.repeat(np.arange(len(scores)), len(flat) // max(len(scores), 1))
        counted = slice(None) if ignore_label is None else flat != ignore_label
        return cls(rows[counted], flat[counted], tuple(classes), samples[counted])

    @property
    def count(self) -> int:
        """Rows, N."""
        return len(self.labels)

    def name(self, index: int) -> str:
        """The name of a class, or its number."""
        return self.classes[index] if index < len(self.classes) else str(index)

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """The class of the highest score, the first of equal ones; NaN is below all."""
        known = np.where(np.isnan(self.scores), -np.inf, self.scores)
        return np.asarray(known.argmax(axis=1), np.int64)

    @cached_property
    def ranks(self) -> NDArray[np.int64]:
        """#{j: s[j] ≥ s[label]}, as the accuracy layer counts: 1 is best, 0 for NaN."""
        return np.asarray((self.scores >= self._own[:, np.newaxis]).sum(axis=1), np.int64)

    @cached_property
    def probable(self) -> bool:
        """Whether the scores are probabilities: none below 0, the sum of each row 1."""
        sums = self.scores.sum(axis=1)
        return bool((self.scores >= 0).all() and (np.abs(sums - 1) <= _SUM).all())

    def top_k(self, k: int) -> float:
        """The share of labels with 1 ≤ rank ≤ k; ties count against the label."""
        return _mean((self.ranks >= 1) & (self.ranks <= k))

    def confusion(self) -> NDArray[np.int64]:
        """How many samples of each class (row) were taken for each class (column), C x C."""
        c = self.scores.shape[1]
        return np.bincount(self.labels * c + self.predicted, minlength=c * c).reshape(c, c)

    def per_class(self) -> tuple[ClassShare, ...]:
        """Count, precision and recall of every class."""
        c = self.scores.shape[1]
        right = np.bincount(self.labels[self.predicted == self.labels], minlength=c)
        counts, taken = (np.bincount(x, minlength=c) for x in (self.labels, self.predicted))
        precision, recall = (_shares(right, whole) for whole in (taken, counts))
        return tuple(
            ClassShare(i, self.name(i), int(counts[i]), float(precision[i]), float(recall[i]))
            for i in range(c)
        )

    def mistakes(self, n: int) -> tuple[Mistake, ...]:
        """The `n` samples whose score lies farthest below that of the class they were taken for."""
        wrong = np.flatnonzero(self.predicted != self.labels)
        confidence = self.scores[wrong, self.predicted[wrong]]
        missed = np.nan_to_num(confidence - self._own[wrong], nan=np.inf)
        worst = np.argsort(-missed, kind="stable")[:n]
        return tuple(
            Mistake(self._sample(row), int(self.labels[row]), int(self.predicted[row]), float(sure))
            for row, sure in zip(wrong[worst], confidence[worst], strict=True)
        )

    def calibration_error(self) -> float:
        """Σ |B|/N · |share right in B - mean confidence in B| over 15 bins of confidence.

        The expected calibration error of Guo et al. (2017), equation 3; NaN unless the scores are
        probabilities.
        """
        if not self.count or not self.probable:
            return float("nan")
        confidence = self.scores.max(axis=1).astype(np.float64)
        bins = np.clip(np.ceil(confidence * _BINS).astype(np.int64) - 1, 0, _BINS - 1)
        right = (self.predicted == self.labels).astype(np.float64)
        gaps = np.bincount(bins, right - confidence, minlength=_BINS)
        return float(np.abs(gaps).sum() / self.count)

    @cached_property
    def _own(self) -> NDArray[np.float32]:
        """The score of each label's class."""
        return self.scores[np.arange(self.count), self.labels]

    def _sample(self, row: Any) -> int:
        return int(row if self.samples is None else self.samples[row])


def averaged(several: Sequence[Scored]) -> Scored:
    """The scores of several nets on the same samples, their mean."""
    first, *others = several
    assert all(np.array_equal(first.labels, other.labels) for other in others)
    mean = np.mean([scored.scores for scored in several], axis=0, dtype=np.float64)
    return replace(first, scores=np.asarray(mean, np.float32))


@dataclass(frozen=True)
class Regressed:
    """What a head predicted for N samples, and its targets, in their units."""

    name: str
    """The blob of the predictions."""
    predictions: NDArray[np.float32]
    """N x targets."""
    targets: NDArray[np.float32]
    """N x targets."""

    def mean_absolute_error(self) -> NDArray[np.float64]:
        """Σ |p - t| / N of each target."""
        return np.asarray(np.abs(self._errors).mean(axis=0))

    def rmse(self) -> NDArray[np.float64]:
        """√(Σ (p - t)² / N) of each target."""
        return np.asarray(np.sqrt(np.square(self._errors).mean(axis=0)))

    @property
    def _errors(self) -> NDArray[np.float64]:
        return np.asarray(self.predictions.astype(np.float64) - self.targets)


def _shares(parts: NDArray[np.int64], wholes: NDArray[np.int64]) -> NDArray[np.float64]:
    shares = np.full(len(parts), np.nan)
    np.divide(parts, wholes, out=shares, where=wholes > 0)
    return shares


def _mean(flags: NDArray[np.bool_]) -> float:
    return float(flags.mean()) if flags.size else float("nan")
