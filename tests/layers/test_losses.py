"""Losses: numbers worked by hand or printed in lectures, what fits, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from netspec.ir.layer import Layer, ShapeError
from netspec.ir.types import TensorType
from netspec.layers import LAYERS
from netspec.layers.sigmoid import Sigmoid
from netspec.layers.softmax import Softmax

CS231N = np.array([[3.2, 5.1, -1.7], [1.3, 4.9, 2.0], [2.2, 2.5, -3.1]], np.float32)
"""Scores of cat, car and frog for a picture of each: CS231n 2017, lecture 3."""


def column(*numbers: float) -> Any:
    return np.array(numbers, np.float32).reshape(-1, 1)


@pytest.mark.parametrize(
    ("keyword", "fields", "bottoms", "expected"),
    [
        # The lecture: 2.9, 0 and 12.9, on average 5.27.
        ("hinge_loss", {"multiclass": True}, [CS231N, np.arange(3)], (2.9 + 0 + 12.9) / 3),
        ("hinge_loss", {"multiclass": True, "norm": "L2"}, [CS231N[:1], np.array([0])], 2.9**2),
        # One class against the others: 0 + 6.1 + 0 for the cat.
        ("hinge_loss", {}, [CS231N[:1], np.array([0])], 6.1),
        ("euclidean_loss", {}, [column(1, 2), column(3, 5)], (4 + 9) / 4),
        ("smooth_l1_loss", {}, [column(0.5, 3), column(0, 0)], (0.125 + 2.5) / 2),
        ("smooth_l1_loss", {"sigma": 2}, [column(0.25, 3), column(0, 0)], (0.125 + 2.875) / 2),
        ("sigmoid_loss", {}, [column(0, 0), column(1, 0.5)], np.log(2)),
        ("sigmoid_loss", {}, [column(1e4, -1e4), column(0, 1)], 1e4),
        ("sigmoid_loss", {}, [column(1e4, -1e4), column(1, 0)], 0),
        ("contrastive_loss", {}, [column(0, 0), column(0.5, 0.5), np.array([1, 0])],
         (0.25 + 0.25) / 4),
        ("contrastive_loss", {"legacy_version": True},
         [column(0, 0), column(0.5, 0.5), np.array([1, 0])], (0.25 + 0.75) / 4),
        ("contrastive_loss", {"margin": 2}, [column(0, 0), column(3, 1), column(0, 0)], 1 / 4),
        ("triplet_loss", {}, [column(0, 0), column(1, 1), column(2, 1)], 0.2 / 2),
        ("multinomial_logistic_loss", {}, [np.array([[0.25, 0.75]], np.float32), np.array([0])],
         np.log(4)),
        ("infogain_loss", {"infogain": [1, 0.5, 0, 3]},
         [np.zeros((2, 2), np.float32), np.array([0, 1])], (1.5 + 3) * np.log(2) / 2),
        ("softmax_loss", {"label_smoothing": 0.5},
         [np.array([[0, 1e4]], np.float32), np.array([1])], 2500),
        # Weights far below 1 still divide: the mean of two equal losses is that loss.
        ("softmax_loss", {"class_weight": [1e-6, 1e-6]},
         [np.zeros((2, 2), np.float32), np.array([0, 1])], np.log(2)),
        # Labels that weigh nothing: 0, not 0/0.
        ("softmax_loss", {"class_weight": [0, 1]},
         [np.zeros((2, 2), np.float32), np.array([0, 0])], 0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("training", [False, True])
def test_by_hand(
    keyword: str, fields: Any, bottoms: Any, expected: float, training: bool, forward: Any
) -> None:
    (y,) = forward(LAYERS[keyword](**fields), *bottoms, training=training)
    assert y.shape == ()
    assert y == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_the_identity_is_the_softmax_loss(forward: Any) -> None:
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(4, 5, 3)).astype(np.float32)
    labels = generator.integers(0, 5, (4, 3))
    (ours,) = forward(
        LAYERS["infogain_loss"](infogain=np.eye(5).flatten().tolist()), scores, labels
    )
    (softmax,) = forward(LAYERS["softmax_loss"](), scores, labels)
    assert ours == pytest.approx(softmax, rel=1e-6)


def test_any_batch(bench: Any) -> None:
    """No constant holds the batch: what is lowered for two samples runs for five."""
    generator = np.random.default_rng(0)
    for keyword, fields, bottoms in (
        ("smooth_l1_loss", {}, [(4,), (4, 1)]),
        ("triplet_loss", {}, [(4, 2)] * 3),
        ("contrastive_loss", {}, [(4,), (4,), (1,)]),
        ("sigmoid_loss", {}, [(4,), (1, 4)]),
    ):
        types = [TensorType((2, *shape)) for shape in bottoms]
        session = bench(LAYERS[keyword](**fields), types, training=False).session()
        fed = {f"bottom{i}": generator.normal(size=(5, *s)) for i, s in enumerate(bottoms)}
        (y,) = session.run(None, {name: x.astype(np.float32) for name, x in fed.items()})
        assert np.isfinite(y)


@pytest.mark.parametrize(
    ("layer", "deployed"),
    [
        (LAYERS["sigmoid_loss"](), Sigmoid()),
        (LAYERS["infogain_loss"](axis=2), Softmax(axis=2)),
        (LAYERS["hinge_loss"](), None),
        (LAYERS["euclidean_loss"](), None),
        (LAYERS["multinomial_logistic_loss"](), None),
    ],
)
def test_deployed(layer: Layer, deployed: Layer | None) -> None:
    assert layer.deploy() == deployed


def x(*shape: int) -> TensorType:
    return TensorType(shape)


def label(*shape: int) -> TensorType:
    return TensorType(shape, "int64")


@pytest.mark.parametrize(
    ("keyword", "fields", "types", "message"),
    [
        ("euclidean_loss", {}, [x(2, 4), x(2, 5)], "one shape, not 4 and 5"),
        ("euclidean_loss", {}, [x(2, 2, 3), x(2, 3, 2)], "one shape, not 2x3 and 3x2"),
        ("euclidean_loss", {}, [x(2, 4), x(3, 4)], "bottoms have 2 and 3 samples"),
        ("euclidean_loss", {}, [x(2, 4), label(2)], r"takes numbers, not labels \(int64"),
        ("smooth_l1_loss", {}, [x(2, 4)] * 3 + [x(2, 1)], "one shape, not 4 and 1"),
        ("sigmoid_loss", {}, [x(2, 4), label(2)], r"takes numbers, not labels"),
        ("triplet_loss", {}, [x(2, 4), x(2, 4), x(2, 3)], "one shape, not 4 and 3"),
        ("contrastive_loss", {}, [x(2, 4), x(2, 3), label(2)], "not 4 and 3"),
        ("contrastive_loss", {}, [x(2, 4), x(2, 4), x(2, 4)],
         "takes 1 label per sample, not 4"),
        ("contrastive_loss", {}, [x(2, 4), x(2, 4), label(3)],
         "2 samples, but labels for 3"),
        ("hinge_loss", {}, [x(2, 4), x(2)], "the second bottom must hold labels"),
        ("hinge_loss", {}, [x(2, 4), label(2, 4)], "take 1 label per sample, not 4"),
        ("multinomial_logistic_loss", {}, [x(2, 4), x(2)], "must hold labels"),
        ("infogain_loss", {}, [x(2, 3), label(2)], "needs its matrix H"),
        ("infogain_loss", {"infogain": [1, 0, 0, 1]}, [x(2, 3), label(2)],
         "4 values in infogain, but 3 classes take 3x3"),
        ("infogain_loss", {}, [x(2, 3), label(2), x(2, 3, 4)],
         "the third bottom is 3x4, but 3 classes take 3x3"),
        ("infogain_loss", {}, [x(2, 3), label(2), x(4, 3, 3)],
         "scores for 2 samples, but matrices for 4"),
        ("infogain_loss", {}, [x(2, 3), label(2), label(2, 3, 3)], "numbers, not labels"),
        ("infogain_loss", {"infogain": [1] * 9}, [x(2, 3), label(2), x(2, 3, 3)],
         "not both"),
        ("softmax_loss", {"class_weight": [1, 2]}, [x(2, 3), label(2)],
         "2 weights for 3 classes"),
    ],
)  # fmt: skip
def test_refused(keyword: str, fields: Any, types: Sequence[TensorType], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        LAYERS[keyword](**fields).infer(types)
