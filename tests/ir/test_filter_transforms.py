"""Transforms of filters, as matrices on their taps, against numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from netspec.ir.filter_transforms import FilterTransform, Listed, listed


def apply(transform: FilterTransform, w: np.ndarray) -> np.ndarray:
    return (transform.matrix(w.shape) @ w.ravel()).reshape(w.shape)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("identity", lambda w: w),
        ("rot90", np.rot90),
        ("rot180", lambda w: np.rot90(w, 2)),
        ("rot270", lambda w: np.rot90(w, 3)),
        ("flip", np.fliplr),
    ],
)
def test_right_angles_and_the_flip_are_exact(
    word: Any, expected: Callable[..., Any], size: int
) -> None:
    w = np.random.default_rng(0).normal(size=(size, size))
    np.testing.assert_array_equal(apply(listed((word,))[-1], w), expected(w))


def test_half_turns_and_flips_of_oblongs() -> None:
    w = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(apply(FilterTransform(degrees=180), w), w[::-1, ::-1])
    np.testing.assert_array_equal(apply(FilterTransform(flip=True), w), w[:, ::-1])
    np.testing.assert_array_equal(apply(FilterTransform(flip=True), w[0]), w[0, ::-1])


def test_scales_keep_the_centre() -> None:
    w = np.arange(25.0).reshape(5, 5)
    half = apply(FilterTransform(scale=0.5), w)
    np.testing.assert_array_equal(half[1:4, 1:4], w[::2, ::2])
    assert not half[0].any()
    double = apply(FilterTransform(scale=2), w)
    np.testing.assert_array_equal(double[::2, ::2], w[1:4, 1:4])
    np.testing.assert_array_equal(double[1, 1], w[1:3, 1:3].mean())


def test_the_identity_comes_first_once() -> None:
    quarter = FilterTransform(degrees=90)
    assert listed(()) == (FilterTransform(),)
    assert listed(("rot90", "identity")) == (FilterTransform(), quarter)
    message = Listed.model_validate({"scale": [1, 2], "rotate": [0, 90, -45], "flip": True})
    assert listed(message) == (
        FilterTransform(), quarter, FilterTransform(degrees=315),
        FilterTransform(scale=2), FilterTransform(flip=True),
    )  # fmt: skip
    for twice in ({"rotate": [90, -270]}, {"scale": [2, 2]}):
        with pytest.raises(ValueError, match="listed twice"):
            listed(Listed.model_validate(twice))
