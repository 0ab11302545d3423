"""What the proof that samples keep apart takes for true, operator by operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from netspec.codegen.builder import Builder
from netspec.codegen.samplewise import FIXED, ROWS, Kind, Mean, Sizes, kinds
from netspec.ir.graph import Value
from netspec.ir.types import TensorType

SIZES = Sizes(6, 3)

Made = Callable[[Builder, Value, Value], Value]


def known(make: Made, *sample: int, fixed: tuple[int, ...] = (4,)) -> Kind | None:
    """Of what `make` makes of samples of a shape and of something fixed."""
    built = []
    for batch in (SIZES.whole, SIZES.part):
        op = Builder()
        rows = op.input("rows", TensorType((batch, *sample)))
        same = op.input("fixed", TensorType(fixed))
        built.append((op, rows, same, make(op, rows, same)))
    (whole, rows, same, made), (part, *_) = built
    return kinds(whole, part, SIZES, {rows: ROWS, same: FIXED}).get(made)


def numbers(op: Builder, *shape: int) -> Value:
    return op.constant(np.arange(np.prod(shape), dtype=np.float32).reshape(shape))


def mean(op: Builder, x: Value) -> Any:
    return op.ReduceMean(x, op.ints(0), keepdims=0)


def total(op: Builder, x: Value) -> Any:
    return op.ReduceSum(x, op.ints(0), keepdims=0)


def count(x: Value) -> float:
    return float(x.type.batch)


APART: dict[str, Made] = {
    "cells": lambda op, x, w: op.Relu(op.Sub(op.Mul(x, w), op.scalar(2))),
    "rows by rows": lambda op, x, w: op.Where(op.Less(x, w), x, op.Exp(x)),
    "a column for each": lambda op, x, w: op.Div(x, op.ReduceMax(x, op.ints(1), keepdims=1)),
    "gemm": lambda op, x, w: op.Gemm(x, numbers(op, 4, 5), numbers(op, 5)),
    "product": lambda op, x, w: op.MatMul(x, numbers(op, 4, 5)),
    "reshape": lambda op, x, w: op.Reshape(x, op.ints(-1, 2, 2)),
    "reshape to what the batch is": lambda op, x, w: op.Reshape(x, op.ints(x.type.batch, 2, 2)),
    "transposed behind": lambda op, x, w: op.Transpose(
        op.Reshape(x, op.ints(0, 2, 2)), perm=(0, 2, 1)
    ),
    "softmax": lambda op, x, w: op.Softmax(x, axis=-1),
    "concat": lambda op, x, w: op.Concat(x, x, axis=1),
    "split": lambda op, x, w: op.Split(x, op.ints(1, 3), outputs=2, axis=1)[1],
    "slice": lambda op, x, w: op.Slice(x, op.ints(1), op.ints(3), op.ints(1)),
    "pad": lambda op, x, w: op.Pad(x, op.ints(0, 1, 0, 2)),
    "pad of axes": lambda op, x, w: op.Pad(x, op.ints(1, 2), None, op.ints(1)),
    "the best": lambda op, x, w: op.TopK(x, op.ints(2), outputs=2)[1],
    "table": lambda op, x, w: op.Gather(
        numbers(op, 9, 2), op.Cast(op.ReduceMax(x, op.ints(1), keepdims=0), to="int64")
    ),
    "columns": lambda op, x, w: op.Gather(x, op.ints(3, 0), axis=1),
    "cells of each": lambda op, x, w: op.GatherElements(x, op.Cast(x, to="int64"), axis=1),
    "one-hot": lambda op, x, w: op.OneHot(
        op.Cast(x, to="int64"), op.constant(np.array(3)), op.constant(np.array([0.0, 1.0], "f"))
    ),
    "running sum": lambda op, x, w: op.CumSum(x, op.constant(np.array(1, np.int64))),
    "expanded": lambda op, x, w: op.Expand(op.Unsqueeze(x, op.ints(1)), op.ints(1, 7, 1)),
    "fixed for each": lambda op, x, w: op.Add(x, op.Expand(w, op.ints(x.type.batch, 4))),
    "a constant row for each": lambda op, x, w: op.Add(x, op.constant(np.ones(x.type.shape, "f"))),
    "squeezed": lambda op, x, w: op.Squeeze(op.Unsqueeze(x, op.ints(-1)), op.ints(2)),
    "squares of each": lambda op, x, w: op.MatMul(
        op.Reshape(x, op.ints(0, 2, 2)), op.Reshape(x, op.ints(0, 2, 2))
    ),
}
MEET: dict[str, Made] = {
    "an operator that is not known": lambda op, x, w: op.Det(
        op.Reshape(op.Concat(x, x, x, x, axis=1), op.ints(-1, 4, 4))
    ),
    "softmax over samples": lambda op, x, w: op.Softmax(x, axis=0),
    "softmax over samples, counted from the end": lambda op, x, w: op.LogSoftmax(x, axis=-2),
    "one after the other": lambda op, x, w: op.Concat(x, x, axis=0),
    "first half": lambda op, x, w: op.Split(x, outputs=2, axis=0, num_outputs=2)[0],
    "first samples": lambda op, x, w: op.Slice(x, op.ints(0), op.ints(2), op.ints(0)),
    "slice of all axes": lambda op, x, w: op.Slice(x, op.ints(0, 0), op.ints(2, 2)),
    "another in front": lambda op, x, w: op.Pad(x, op.ints(1, 0, 0, 0)),
    "another in front, by axes": lambda op, x, w: op.Pad(x, op.ints(0, 1), None, op.ints(0)),
    "reordered": lambda op, x, w: op.Gather(x, op.ints(*reversed(range(x.type.batch))), axis=0),
    "columns by what the samples say": lambda op, x, w: op.Gather(
        x, op.Cast(op.ReduceMax(x, op.ints(1), keepdims=0), to="int64"), axis=1
    ),
    "turned": lambda op, x, w: op.Transpose(x, perm=(1, 0)),
    "cells of all": lambda op, x, w: op.Reshape(x, op.ints(-1)),
    "two to a row": lambda op, x, w: op.Reshape(op.Concat(x, x, axis=1), op.ints(-1, 4)),
    "each with each": lambda op, x, w: op.MatMul(x, op.Transpose(x, perm=(1, 0))),
    "each with each, broadcast": lambda op, x, w: op.Sub(
        op.ReduceMax(x, op.ints(1), keepdims=0), op.ReduceMax(x, op.ints(1), keepdims=1)
    ),
    "gemm that turns": lambda op, x, w: op.Gemm(x, numbers(op, x.type.batch, 2), transA=1),
    "numbered": lambda op, x, w: op.Add(x, numbers(op, x.type.batch, 1)),
    "by how many there are": lambda op, x, w: op.Mul(x, op.scalar(1 / count(x))),
    "minus their mean": lambda op, x, w: op.Sub(x, mean(op, x)),
    "over their largest": lambda op, x, w: op.Div(x, op.ReduceMax(x, op.ints(0), keepdims=1)),
    "running sum of samples": lambda op, x, w: op.CumSum(x, op.constant(np.array(0, np.int64))),
    "best samples": lambda op, x, w: op.TopK(x, op.ints(2), outputs=2, axis=0)[0],
    "a part that reads something else": lambda op, x, w: op.Sub(
        x, [w, op.ReduceMax(x, op.ints(0), keepdims=1)][x.type.batch == SIZES.part]
    ),
    "a constant in the part alone": lambda op, x, w: op.Sub(
        x, w if x.type.batch == SIZES.whole else numbers(op, 4)
    ),
    "attributes that differ": lambda op, x, w: op.Clip(op.LeakyRelu(x, alpha=1 / count(x))),
    "by lot": lambda op, x, w: op.RandomUniformLike(x),
    "of something fixed by lot": lambda op, x, w: op.RandomUniformLike(w),
    "statistics of the batch": lambda op, x, w: op.BatchNormalization(
        x, w, w, w, w, outputs=3, training_mode=1
    )[0],
}
MEANS: dict[str, tuple[Made, float]] = {
    "mean": (lambda op, x, w: mean(op, x), 1),
    "mean of everything": (lambda op, x, w: op.ReduceMean(x, keepdims=0), 1),
    "sum": (lambda op, x, w: total(op, x), 2),
    "sum over their count": (lambda op, x, w: op.Div(total(op, x), op.scalar(count(x))), 1),
    "sum times a share": (lambda op, x, w: op.Mul(op.scalar(1 / count(x)), total(op, x)), 1),
    "sum over something else": (lambda op, x, w: op.Div(total(op, x), op.scalar(5)), 2),
    "mean times what is fixed": (lambda op, x, w: op.Mul(mean(op, x), w), 1),
    "sum of means": (lambda op, x, w: op.ReduceSum(mean(op, x), keepdims=0), 1),
    "means that count alike": (
        lambda op, x, w: op.Neg(op.Sub(mean(op, x), mean(op, op.Exp(x)))),
        1,
    ),
}
NO_MEANS: dict[str, Made] = {
    "square of the mean": lambda op, x, w: op.Mul(mean(op, x), mean(op, x)),
    "root of the mean": lambda op, x, w: op.Sqrt(mean(op, x)),
    "one over the mean": lambda op, x, w: op.Div(op.scalar(1), mean(op, x)),
    "ratio of sums": lambda op, x, w: op.Div(total(op, x), total(op, op.Exp(x))),
    "means that count otherwise": lambda op, x, w: op.Add(mean(op, x), total(op, x)),
    "largest": lambda op, x, w: op.ReduceMax(x, op.ints(0), keepdims=0),
    "largest of means": lambda op, x, w: op.ReduceMax(mean(op, x), keepdims=0),
    "cut otherwise": lambda op, x, w: op.Reshape(
        mean(op, op.Pad(x, op.ints(0, 0, 0, 2))), op.ints(x.type.batch, -1)
    ),
    "times nothing, of one": lambda op, x, w: op.Mul(
        mean(op, x), op.scalar(float(x.type.batch == SIZES.whole))
    ),
}


@pytest.mark.parametrize("name", APART)
def test_rows_stay_apart(name: str) -> None:
    assert known(APART[name], 4) == ROWS


@pytest.mark.parametrize("name", MEET)
def test_samples_that_may_meet(name: str) -> None:
    assert known(MEET[name], 4) is None


@pytest.mark.parametrize("name", MEANS)
def test_means_of_parts(name: str) -> None:
    make, ratio = MEANS[name]
    assert known(make, 4) == Mean(ratio)


@pytest.mark.parametrize("name", NO_MEANS)
def test_what_is_no_mean(name: str) -> None:
    assert known(NO_MEANS[name], 4) is None


def test_what_hangs_on_no_sample() -> None:
    assert known(lambda op, x, w: op.Softmax(op.Exp(w), axis=0), 4) == FIXED
    assert known(lambda op, x, w: op.Add(w, op.scalar(count(x))), 4) is None


def test_images() -> None:
    window = {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1)}
    made: list[Made] = [
        lambda op, x, w: op.Conv(x, w, **window),
        lambda op, x, w: op.ConvTranspose(x, w, **window),
        lambda op, x, w: op.MaxPool(x, outputs=2, **window)[0],
        lambda op, x, w: op.AveragePool(x, **window),
        lambda op, x, w: op.GlobalAveragePool(x),
        lambda op, x, w: op.LRN(x, size=3),
        lambda op, x, w: op.Resize(x, None, None, op.ints(x.type.batch, 2, 8, 8)),
        lambda op, x, w: op.BatchNormalization(
            x, *(numbers(op, 2) for _ in range(4)), training_mode=0
        ),
    ]
    for make in made:
        assert known(make, 2, 4, 4, fixed=(2, 2, 3, 3)) == ROWS
    # Its places count through the whole batch.
    places: Made = lambda op, x, w: op.MaxPool(x, outputs=2, **window)[1]  # noqa: E731
    assert known(places, 2, 4, 4) is None
    # A filter that hangs on a sample, as of a net that makes its own.
    own: Made = lambda op, x, w: op.Conv(x, op.Slice(x, op.ints(0), op.ints(2), op.ints(0)))  # noqa: E731
    assert known(own, 2, 4, 4) is None


def test_one_sample_in_a_part_is_not_taken_for_an_axis_to_repeat() -> None:
    op, other = Builder(), Builder()
    rows, fixed = op.input("x", TensorType((2, 3))), op.input("w", TensorType((2, 3)))
    made = op.Mul(rows, fixed)  # sample by sample another factor
    again = other.Mul(other.input("x", TensorType((1, 3))), other.input("w", TensorType((2, 3))))
    assert again.type.shape == (2, 3)
    found = kinds(op, other, Sizes(2, 1), {rows: ROWS, fixed: FIXED})
    assert made not in found


def test_nothing_is_known_behind_what_differs() -> None:
    def make(op: Builder, x: Value, w: Value) -> Value:
        y = op.Relu(x) if x.type.batch == SIZES.whole else op.Exp(x)
        return op.Tanh(op.Add(x, y))  # type: ignore[no-any-return]

    assert known(make, 4) is None
