"""Accuracy against Caffe's rule, ties and numbers that are none included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netspec.ir.layer import ShapeError
from netspec.ir.types import TensorType
from netspec.layers.accuracy import Accuracy


def caffe_accuracy(scores: np.ndarray, labels: np.ndarray, top_k: int, ignore: int | None) -> float:
    """`AccuracyLayer::Forward_cpu`, classes on axis 1."""
    right = count = 0
    for place in np.ndindex(*labels.shape):
        if labels[place] == ignore:
            continue
        column = scores[(place[0], slice(None), *place[1:])]
        better = -1  # the label itself is seen once
        for score in column:
            better += score >= column[labels[place]]
        right += better < top_k
        count += 1
    return right / count if count else 0.0


@pytest.mark.parametrize("top_k", [1, 2, 3, 5])
@pytest.mark.parametrize("ignore_label", [None, 2, -1])
@pytest.mark.parametrize("shape", [(20, 5), (4, 5, 3, 2)])
def test_caffes_rule(top_k: int, ignore_label: int | None, shape: Any, forward: Any) -> None:
    generator = np.random.default_rng(top_k)
    # Whole numbers from a few: ties abound.
    scores = generator.integers(0, 4, shape).astype(np.float32)
    labels = generator.integers(0, 5, shape[:1] + shape[2:])
    labels[0] = 2 if ignore_label is None else ignore_label
    (y,) = forward(Accuracy(top_k=top_k, ignore_label=ignore_label), scores, labels)
    assert y == pytest.approx(caffe_accuracy(scores, labels, top_k, ignore_label), abs=1e-6)


def test_equal_scores_are_wrong(forward: Any) -> None:
    assert forward(Accuracy(), np.zeros((4, 3), np.float32), np.array([0, 1, 2, 0]))[0] == 0


@pytest.mark.parametrize("top_k", [1, 3])
def test_not_a_number_is_wrong(top_k: int, forward: Any) -> None:
    scores = np.full((4, 3), np.nan, np.float32)
    assert forward(Accuracy(top_k=top_k), scores, np.array([0, 1, 2, 0]))[0] == 0


def test_infinities_compare(forward: Any) -> None:
    scores = np.array([[np.inf, 1, 2], [-np.inf, 5, 4], [-np.inf, 5, 4]], np.float32)
    assert forward(Accuracy(), scores, np.array([0, 1, 0]))[0] == pytest.approx(2 / 3)


def test_ignored_leave_the_denominator(forward: Any) -> None:
    # Caffe's TestForwardIgnoreLabel: 3 of 100 ignored, so the rest is divided by 97.
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(100, 10)).astype(np.float32)
    labels = scores.argmax(1)
    labels[[1, 4, 8]] = -1
    labels[50:60] = (scores[50:60].argmax(1) + 1) % 10
    (y,) = forward(Accuracy(ignore_label=-1), scores, labels)
    assert y == pytest.approx(87 / 97)


def test_all_ignored_is_zero(forward: Any) -> None:
    scores = np.eye(3, dtype=np.float32)
    assert forward(Accuracy(ignore_label=9), scores, np.full(3, 9))[0] == 0


def test_more_than_all_classes() -> None:
    with pytest.raises(ShapeError, match="top_k 6 of 5 classes"):
        Accuracy(top_k=6).infer([TensorType((2, 5)), TensorType((2,), "int64")])


def test_leaves_a_deployed_net() -> None:
    assert Accuracy().deploy() is None
