"""Softmax loss against its formula and Caffe's own checks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netspec.ir.layer import ShapeError
from netspec.ir.types import TensorType
from netspec.layers.softmax import Softmax
from netspec.layers.softmax_loss import SoftmaxLoss

GENERATOR = np.random.default_rng(0)
SCORES = GENERATOR.normal(size=(3, 5, 2, 4)).astype(np.float32)
LABELS = GENERATOR.integers(0, 5, (3, 2, 4))


def caffe_loss(
    scores: np.ndarray, labels: np.ndarray, normalization: str, ignore_label: int | None = None
) -> float:
    """`SoftmaxWithLossLayer::Forward_cpu`, classes on axis 1."""
    probability = np.exp(scores.astype(np.float64))
    probability /= probability.sum(1, keepdims=True)
    loss, count = 0.0, 0
    for place in np.ndindex(*labels.shape):
        if labels[place] == ignore_label:
            continue
        loss -= np.log(probability[(place[0], labels[place], *place[1:])])
        count += 1
    n = {"VALID": count, "FULL": labels.size, "BATCH_SIZE": len(labels), "NONE": 1}[normalization]
    return loss / max(1, n)


@pytest.mark.parametrize("normalization", ["VALID", "FULL", "BATCH_SIZE", "NONE"])
@pytest.mark.parametrize("ignore_label", [None, 2, -1, 255])
@pytest.mark.parametrize("training", [False, True])
def test_formula(
    normalization: Any, ignore_label: int | None, training: bool, forward: Any
) -> None:
    labels = LABELS.copy()
    if ignore_label in (-1, 255):
        labels[0, 0, :3] = ignore_label
    layer = SoftmaxLoss(normalization=normalization, ignore_label=ignore_label)
    (loss,) = forward(layer, SCORES, labels, training=training)
    assert loss.shape == ()
    assert loss == pytest.approx(caffe_loss(SCORES, labels, normalization, ignore_label), rel=1e-5)


def test_all_ignored_is_zero(forward: Any) -> None:
    assert forward(SoftmaxLoss(ignore_label=7), SCORES, np.full((3, 2, 4), 7))[0] == 0


def test_ignoring_each_class_in_turn(forward: Any) -> None:
    # Caffe's TestForwardIgnoreLabel: five losses that each leave out one of five classes.
    (full,) = forward(SoftmaxLoss(normalization="BATCH_SIZE"), SCORES, LABELS)
    parts = [
        forward(SoftmaxLoss(normalization="BATCH_SIZE", ignore_label=c), SCORES, LABELS)[0]
        for c in range(5)
    ]
    assert sum(parts) == pytest.approx(4 * full, rel=1e-5)


@pytest.mark.parametrize(
    ("scores", "labels"),
    [
        ((3, 5), (3,)), ((3, 5), (3, 1)), ((3, 5, 1, 1), (3,)), ((3, 5, 2, 4), (3, 2, 4)),
        ((3, 5, 2, 4), (3, 1, 2, 4)), ((3, 5, 1, 4), (3, 4)), ((1, 5), (1,)),
    ],
)  # fmt: skip
def test_labels_that_fit(scores: Any, labels: Any, forward: Any) -> None:
    x = GENERATOR.normal(size=scores).astype(np.float32)
    label = GENERATOR.integers(0, 5, labels)
    expected = caffe_loss(x, label.reshape(scores[:1] + scores[2:]), "VALID")
    assert forward(SoftmaxLoss(), x, label)[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("axis", [2, -1, 3])
def test_other_axes(axis: int, forward: Any) -> None:
    x = GENERATOR.normal(size=(3, 2, 4, 5)).astype(np.float32)
    moved = np.moveaxis(x, axis, 1)
    label = GENERATOR.integers(0, moved.shape[1], moved.shape[:1] + moved.shape[2:])
    expected = caffe_loss(moved, label, "VALID")
    assert forward(SoftmaxLoss(axis=axis), x, label)[0] == pytest.approx(expected, rel=1e-5)


def test_large_scores_stay_finite(forward: Any) -> None:
    x = np.array([[1000, -1000], [-1000, 1000]], np.float32)
    assert forward(SoftmaxLoss(), x, np.array([0, 0]))[0] == pytest.approx(1000)


@pytest.mark.parametrize(
    ("scores", "label", "message"),
    [
        (
            (3, 5, 2, 4),
            (3, 4, 2),
            "scores of 5x2x4, classes on axis 1, take 2x4 labels per sample, not 4x2",
        ),
        ((3, 5), (3, 5), "scores of 5, classes on axis 1, take 1 label per sample, not 5"),
        ((3, 5), (4,), "scores for 3 samples, but labels for 4"),
        ((3,), (3,), "there is no axis 1: the bottom is 3, batch included"),
    ],
)
def test_labels_that_do_not_fit(scores: Any, label: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        SoftmaxLoss().infer([TensorType(scores), TensorType(label, "int64")])


def test_labels_are_whole_numbers() -> None:
    with pytest.raises(ShapeError, match="the second bottom must hold labels"):
        SoftmaxLoss().infer([TensorType((3, 5)), TensorType((3,))])


def test_deploys_as_softmax_of_the_same_axis(forward: Any) -> None:
    deployed = SoftmaxLoss(axis=-1).deploy()
    assert deployed == Softmax(axis=-1)
    x = GENERATOR.normal(size=(3, 4, 5)).astype(np.float32)
    expected = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    np.testing.assert_allclose(forward(deployed, x)[0], expected, rtol=1e-5)
