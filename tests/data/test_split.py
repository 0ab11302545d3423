"""Which samples are held out: shares of classes, folds, and what is refused."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netspec.data.dataset import Dataset
from netspec.data.split import Fold, digest, divided
from netspec.diagnostics import DataError


def labelled(labels: object) -> Dataset:
    """A data set whose data are the row numbers."""
    array = np.asarray(labels, np.int64)
    rows = np.arange(len(array), dtype=np.float32)[:, np.newaxis]
    return Dataset({"data": rows, "label": array}, (), "made")


def counts(dataset: Dataset, classes: int) -> list[int]:
    return np.bincount(dataset.arrays["label"], minlength=classes).tolist()


def test_each_class_gives_its_share() -> None:
    labels = np.repeat([0, 1, 2], [100, 50, 10])
    dataset = labelled(labels)
    train, held = divided(dataset, 0.1, 1, labels)
    assert counts(held, 3) == [10, 5, 1]
    assert counts(train, 3) == [90, 45, 9]
    rows = np.concatenate([train.arrays["data"], held.arrays["data"]])[:, 0]
    assert sorted(rows.tolist()) == list(range(160))
    assert held.rows is not None
    np.testing.assert_array_equal(held.arrays["data"][:, 0], held.rows)


def test_what_rounding_leaves_goes_to_the_largest_remainders() -> None:
    labels = np.repeat([0, 1, 2], [14, 18, 8])
    _, held = divided(labelled(labels), 0.1, 1, labels)  # 1.4, 1.8 and 0.8 make 4
    assert counts(held, 3) == [1, 2, 1]


def test_decimal_shares_are_exact() -> None:
    dataset = labelled(np.zeros(100))
    assert len(divided(dataset, 0.29, 1)[1]) == 29  # 0.29 * 100 is 28.999999999999996
    assert 0.29 * 100 < 29


def test_the_same_on_every_machine() -> None:
    """The first draw ever made: a change of it would exchange samples on resume."""
    labels = np.arange(20) % 2
    _, held = divided(labelled(labels), 0.2, 1, labels)
    assert held.rows is not None
    assert held.rows.tolist() == [3, 8, 14, 15]
    assert digest(held) == "5cea9ffa469ff2d3"


def test_other_seeds_hold_out_others() -> None:
    drawn = [divided(labelled(np.zeros(1000)), 0.1, seed)[1] for seed in range(3)]
    assert len({digest(held) for held in drawn}) == 3


@given(st.lists(st.integers(0, 4), min_size=2, max_size=60), st.integers(2, 60), st.integers())
def test_folds_hold_out_each_sample_once(labels: list[int], count: int, seed: int) -> None:
    count = min(count, len(labels))
    classes = np.array(labels, np.int64)
    parts = [
        divided(labelled(labels), 0.0, seed, classes, Fold(n, count)) for n in range(1, count + 1)
    ]
    held = np.concatenate([held.arrays["data"][:, 0] for _, held in parts])
    assert sorted(held.tolist()) == list(range(len(labels)))
    sizes = [len(held) for _, held in parts]
    assert max(sizes) - min(sizes) <= 1
    by_class = np.array([counts(held, 5) for _, held in parts])
    assert (by_class.max(0) - by_class.min(0) <= 1).all()


@given(
    st.lists(st.integers(-1, 6), min_size=1, max_size=80),
    st.floats(0.001, 0.999),
    st.integers(),
)
def test_a_share_leaves_something_of_every_class(
    labels: list[int], share: float, seed: int
) -> None:
    classes = np.array(labels, np.int64)
    with suppress(DataError):  # where that is impossible
        train, held = divided(labelled(labels), share, seed, classes)
        assert set(train.arrays["label"].tolist()) == set(labels)
        assert abs(len(held) - share * len(labels)) <= 0.5 + 1e-9


@pytest.mark.parametrize(
    ("labels", "share", "message"),
    [
        (range(10), 0.9, "`val: 0.9` of 10 samples is 9, but each of the 10 classes needs one"),
        ([0], 0.6, "`val: 0.6` of 1 samples is 1, but training needs one"),
        ([0] * 100, 0.001, "`val: 0.001` of 100 samples is 0"),
    ],
)
def test_shares_that_cannot_be_taken(labels: object, share: float, message: str) -> None:
    dataset = labelled(labels)
    with pytest.raises(DataError, match=message):
        divided(dataset, share, 1, dataset.arrays["label"])


def test_more_folds_than_samples() -> None:
    with pytest.raises(DataError, match="made: 5 folds of 4 samples"):
        divided(labelled(range(4)), 0.2, 1, None, Fold(1, 5))
