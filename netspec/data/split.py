"""Which samples are held out of the training data: a share of them, or one fold of several."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from netspec.data.dataset import Array, Dataset
from netspec.data.file import fault
from netspec.data.order import key, permutation


@dataclass(frozen=True)
class Fold:
    """The part of the data that a run of a cross-validation does not train on."""

    number: int
    """From 1 to `count`."""
    count: int


def divided(
    dataset: Dataset,
    share: float,
    seed: int,
    classes: Array | None = None,
    fold: Fold | None = None,
) -> tuple[Dataset, Dataset]:
    """The data set without the samples held out, and these, each in the order of the source.

    `classes` holds the class of each sample: each then gives the same share, as nearly as whole
    samples allow. With `fold` its samples are held out, whatever the share. What is held out hangs
    on the seed, the number of samples and their classes alone. DataError if nothing would be left
    to train on, or nothing held out.
    """
    samples = len(dataset)
    if classes is None:
        classes = np.zeros(samples, np.int64)
    order = permutation(samples, key(seed, "val"))
    if fold is not None:
        out = _fold(dataset, classes, order, fold)
    else:
        out = _share(dataset, classes, order, Fraction(repr(share)))
    return dataset.chosen(np.flatnonzero(~out)), dataset.chosen(np.flatnonzero(out))


def digest(dataset: Dataset) -> str:
    """A name for the samples that a data set was divided into."""
    assert dataset.rows is not None
    return sha256(dataset.rows.astype("<i8").tobytes()).hexdigest()[:16]


def _fold(
    dataset: Dataset, classes: Array, order: NDArray[np.int64], fold: Fold
) -> NDArray[np.bool_]:
    """Every `count`-th sample, class after class: folds differ by one sample, in each class too."""
    samples = len(order)
    if fold.count > samples:
        raise fault(dataset.origin, f"{fold.count:,} folds of {samples:,} samples")
    dealt = order[np.argsort(classes[order], kind="stable")]
    out = np.zeros(samples, np.bool_)
    out[dealt[fold.number - 1 :: fold.count]] = True
    return out


def _share(
    dataset: Dataset, classes: Array, order: NDArray[np.int64], share: Fraction
) -> NDArray[np.bool_]:
    """The share of each class; what rounding leaves goes to the largest remainders."""
    found, counts = np.unique(classes, return_counts=True)
    quotas = [share * int(count) for count in counts]
    total = round(share * len(order))
    given = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(found)), key=lambda c: (given[c] - quotas[c], c))
    for c in by_remainder:
        if sum(given) < total and given[c] < counts[c] - 1:
            given[c] += 1
    _check(dataset, share, total, sum(given), len(found))
    out = np.zeros(len(order), np.bool_)
    for c, take in zip(found, given, strict=True):
        out[order[classes[order] == c][:take]] = True
    return out


def _check(dataset: Dataset, share: Fraction, total: int, given: int, classes: int) -> None:
    """Raise DataError unless there is something to validate on, and of each class to train on."""
    said = f"`val: {float(share):g}` of {len(dataset):,} samples is {total:,}"
    if not total:
        raise fault(dataset.origin, said)
    if given < total:
        kept = f"each of the {classes:,} classes" if classes > 1 else "training"
        raise fault(dataset.origin, f"{said}, but {kept} needs one to train on")
