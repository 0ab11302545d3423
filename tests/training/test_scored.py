"""Scores of every sample against the formulas written out, ties and NaN included."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from netspec.training.testing.scored import Regressed, Scored, averaged

N, C = 200, 7


def drawn(seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Probabilities that hang on the label, and the labels; class 6 has none."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, C - 1, N)
    logits = rng.standard_normal((N, C)) + 2 * np.eye(C)[labels]
    exponents = np.exp(logits)
    return (exponents / exponents.sum(1, keepdims=True)).astype(np.float32), labels


def test_confusion_counts_each_pair() -> None:
    scores, labels = drawn()
    wanted = np.zeros((C, C), int)
    for row, label in zip(scores, labels, strict=True):
        wanted[label, max(range(C), key=lambda i: row[i])] += 1
    assert (Scored(scores, labels).confusion() == wanted).all()


def test_precision_and_recall_follow_from_the_confusion() -> None:
    scores, labels = drawn()
    scored = Scored(scores, labels, tuple("abcdefg"))
    matrix = scored.confusion().astype(float)
    for share in scored.per_class():
        i = share.index
        assert share.name == "abcdefg"[i]
        assert share.count == (labels == i).sum()
        if matrix[:, i].sum():
            assert share.precision == pytest.approx(matrix[i, i] / matrix[:, i].sum())
        if share.count:
            assert share.recall == pytest.approx(matrix[i, i] / matrix[i].sum())
    assert math.isnan(scored.per_class()[6].recall)


@pytest.mark.parametrize("k", range(1, C + 1))
def test_top_k_without_ties_is_a_place_among_the_sorted(k: int) -> None:
    scores, labels = drawn()
    places = [
        list(np.argsort(-row)).index(label) for row, label in zip(scores, labels, strict=True)
    ]
    assert Scored(scores, labels).top_k(k) == pytest.approx(np.mean([p < k for p in places]))


def test_ties_count_against_the_label_and_nan_is_wrong() -> None:
    rows = np.array(
        [[1, 1, 0], [2, 1, 1], [0, 0, 0], [math.nan, 1, 2], [1, math.nan, 0]], np.float32
    )
    scored = Scored(rows, np.array([0, 1, 2, 0, 0]))
    assert scored.ranks.tolist() == [2, 3, 3, 0, 1]
    assert [scored.top_k(k) for k in (1, 2, 3)] == pytest.approx([0.2, 0.4, 0.8])
    assert scored.predicted.tolist() == [0, 0, 0, 2, 0]


def test_the_worst_mistakes_come_first() -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3]], np.float32)
    scored = Scored(scores, np.array([1, 0, 1, 1]), ("cat", "dog"))
    found = [(m.sample, m.label, m.predicted, round(m.confidence, 4)) for m in scored.mistakes(10)]
    assert found == [(0, 1, 0, 0.9), (1, 0, 1, 0.8), (3, 1, 0, 0.7)]
    assert scored.mistakes(2) == scored.mistakes(10)[:2]
    assert scored.mistakes(0) == ()


def test_ignored_labels_are_left_out_and_rows_know_their_samples() -> None:
    scores = np.arange(24, dtype=np.float32).reshape(3, 4, 2)  # class 1 always wins
    labels = np.array([[0, 255, 1, 1], [255] * 4, [1, 1, 1, 0]])
    scored = Scored.of(scores, labels, (), 255)
    assert scored.count == 7
    assert scored.top_k(1) == pytest.approx(5 / 7)
    assert [m.sample for m in scored.mistakes(9)] == [0, 2]


def test_nothing_counted_gives_no_number() -> None:
    scored = Scored.of(np.ones((2, 3), np.float32), np.array([9, 9]), (), 9)
    assert math.isnan(scored.top_k(1))
    assert math.isnan(scored.calibration_error())
    assert scored.confusion().sum() == 0
    assert scored.mistakes(5) == ()


def test_calibration_error_by_bins() -> None:
    scores, labels = drawn(3)
    confidence, right = scores.max(1), scores.argmax(1) == labels
    wanted = 0.0
    for i in range(15):
        inside = (confidence > i / 15) & (confidence <= (i + 1) / 15)
        if inside.any():
            wanted += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert Scored(scores, labels).calibration_error() == pytest.approx(wanted, abs=1e-6)
    assert math.isnan(Scored(3 * scores, labels).calibration_error())


def test_an_ensemble_averages_what_its_members_say() -> None:
    (a, labels), (b, _) = drawn(), drawn(1)
    mean = averaged([Scored(a, labels), Scored(b, labels)])
    assert mean.scores == pytest.approx((a + b) / 2, abs=1e-7)
    assert mean.probable
    alone = Scored(a, labels)
    assert (averaged([alone]).scores == alone.scores).all()


def test_errors_of_numbers() -> None:
    predictions, targets = np.array([[1, 5], [3, 5]], np.float32), np.array([[0, 5], [6, 4]])
    head = Regressed("box", predictions, targets.astype(np.float32))
    assert head.mean_absolute_error().tolist() == [2, 0.5]
    assert head.rmse() == pytest.approx([math.sqrt(5), math.sqrt(0.5)])
