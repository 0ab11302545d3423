"""Reshape and flatten against Caffe's own cases, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netspec.ir.layer import ShapeError
from netspec.ir.types import TensorType
from netspec.layers.flatten import Flatten
from netspec.layers.reshape import Reshape

X = TensorType((2, 3, 6, 5))


@pytest.mark.parametrize(
    ("case", "fields"),
    [
        ("reshape_insert_start", {"axis": 0, "num_axes": 0, "shape": {"dim": [1, 1, 1]}}),
        ("reshape_insert_mid", {"axis": 2, "num_axes": 0, "shape": {"dim": [1, 1, 1]}}),
        ("reshape_insert_end", {"axis": -1, "num_axes": 0, "shape": {"dim": [1, 1, 1]}}),
        ("reshape_flatten_mid", {"axis": 1, "num_axes": 2, "shape": {"dim": -1}}),
        ("reshape_infer", {"shape": {"dim": [0, 3, 10, -1]}}),
    ],
)
def test_caffes_shapes(case: str, fields: Any, forward: Any, caffe_cases: Any) -> None:
    shape, expected = caffe_cases[case]["in_shape"], tuple(caffe_cases[case]["out_shape"])
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    (y,) = forward(Reshape.model_validate(fields), x)
    np.testing.assert_array_equal(y, x.reshape(expected))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"shape": {"dim": [0, -1]}}, (2, 90)),
        ({"shape": {"dim": [-1, 30]}}, (6, 30)),
        ({"shape": {"dim": [0, 0, -1]}}, (2, 3, 30)),
        ({"axis": 1, "shape": {"dim": [90]}}, (2, 90)),
        ({"axis": -3, "num_axes": 1, "shape": {"dim": [2, 3]}}, (2, 3, 2, 3, 5)),
        ({"axis": 3, "num_axes": 1, "shape": {"dim": [1, 0]}}, None),
    ],
)
def test_shapes(fields: Any, expected: Any) -> None:
    layer = Reshape.model_validate(fields)
    if expected is None:
        with pytest.raises(ShapeError):
            layer.infer([X])
    else:
        (top,) = layer.infer([X])
        assert top.shape == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shape": {"dim": [2, 91]}}, "180 cells, 2x3x6x5, do not make 2x91"),
        ({"shape": {"dim": [0, 7, -1]}}, "90 cells per sample, 3x6x5, do not make 7x-1"),
        ({"shape": {"dim": [0, 89]}}, "90 cells per sample, 3x6x5, do not make 89"),
        ({"shape": {"dim": [0, -1, -1]}}, "2 dims are -1, and only one can be"),
        ({"shape": {"dim": [0, 0, 0, 0, 0]}}, "dim: 0 copies axis 4, but 2x3x6x5 has 4 axes"),
        ({"shape": {"dim": [0]}, "num_axes": 0}, "180 cells, 2x3x6x5, do not make 2x2x3x6x5"),
        ({"shape": {"dim": [50, -1]}}, "180 cells, 2x3x6x5, do not make 50x-1"),
        ({"shape": {"dim": 1}, "axis": 5}, "there is no axis 5: the bottom is 2x3x6x5"),
        (
            {"shape": {"dim": 1}, "axis": 2, "num_axes": 3},
            "3 axes from axis 2 on, but 2x3x6x5 has 2",
        ),
    ],
)
def test_refused(fields: Any, message: str) -> None:
    with pytest.raises(ShapeError) as error:
        Reshape.model_validate(fields).infer([X])
    assert message in str(error.value)


def test_one_number_for_the_whole_batch_is_refused() -> None:
    with pytest.raises(ShapeError, match="a value for each sample, not one number for the whole"):
        Reshape.model_validate({"shape": {"dim": [1, -1]}}).infer([TensorType(())])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (2, 90)),
        ({"axis": 0}, (180,)),
        ({"axis": 0, "end_axis": 1}, (6, 6, 5)),
        ({"end_axis": 2}, (2, 18, 5)),
        ({"axis": 2}, (2, 3, 30)),
    ],
)
def test_flatten(fields: Any, expected: Any, forward: Any) -> None:
    x = np.random.default_rng(0).normal(size=X.shape).astype(np.float32)
    np.testing.assert_array_equal(forward(Flatten(**fields), x)[0], x.reshape(expected))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"axis": 3, "end_axis": 1}, "end_axis 1 lies before axis 3"),
        ({"end_axis": 4}, "there is no end_axis 4: the bottom is 2x3x6x5"),
    ],
)
def test_flatten_refused(fields: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        Flatten(**fields).infer([X])


@pytest.mark.parametrize(
    ("dims", "expected", "bound"),
    [
        ([2, 90], (2, 90), True),
        ([30, -1], (30, 6), True),
        ([-1, 60], (3, 60), True),
        ([1, -1], (1, 180), False),
        ([1, 0, -1], (1, 3, 60), True),
        ([-1, 45], (4, 45), False),
        ([0, -1], (2, 90), False),
    ],
)
def test_a_shape_may_hold_the_batch(dims: Any, expected: Any, bound: bool, forward: Any) -> None:
    layer = Reshape.model_validate({"shape": {"dim": dims}})
    x = np.arange(180, dtype=np.float32).reshape(X.shape)
    (y,) = forward(layer, x)
    np.testing.assert_array_equal(y, x.reshape(expected))
    assert layer.bound([X]) is bound
