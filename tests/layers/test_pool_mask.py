"""The mask of a MAX pool: where each maximum was, in its plane."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netspec.ir.layer import ShapeError
from netspec.ir.types import TensorType
from netspec.layers.pool import Pooling

G = np.random.default_rng(0)


def masked(**fields: Any) -> Pooling:
    return Pooling(**fields).with_tops(2)


@pytest.mark.parametrize(
    ("case", "fields"),
    [
        ("pool_max_2x2_s1", {"kernel_size": 2}),
        ("pool_max_3x2_s1", {"kernel_h": 3, "kernel_w": 2}),
        ("pool_max_2x3_s1", {"kernel_h": 2, "kernel_w": 3}),
    ],
)
def test_caffes_masks(case: str, fields: Any, forward: Any, caffe_cases: Any) -> None:
    known = caffe_cases[case]
    x = np.array([[known["input"]] * 3] * 2, np.float32)  # equal planes have equal masks
    y, mask = forward(masked(**fields), x)
    np.testing.assert_array_equal(y, [[known["expected"]] * 3] * 2)
    np.testing.assert_array_equal(mask, [[known["mask"]] * 3] * 2)


@pytest.mark.parametrize(
    ("fields", "shape"),
    [
        ({"kernel_size": 2, "stride": 2}, (2, 3, 6, 8)),
        ({"kernel_size": 3, "stride": 2}, (2, 3, 8, 7)),  # over the end below, not at the right
        ({"kernel_size": [3, 2], "stride": [2, 3], "pad": 1}, (2, 3, 8, 5)),  # a column unread
        ({"kernel_size": [2, 3], "stride": [3, 2], "pad": 1}, (2, 3, 5, 8)),  # a row unread
        ({"kernel_size": 3, "stride": 2, "pad": 1}, (2, 3, 7, 8)),
        ({"kernel_size": 3, "stride": 2}, (2, 3, 8)),
        ({"global_pooling": True}, (2, 3, 5, 7)),
    ],
    ids=str,
)
def test_it_points_at_the_maxima(fields: Any, shape: Any, forward: Any) -> None:
    x = G.normal(size=shape).astype(np.float32)
    for training in (False, True):
        (plain,) = forward(Pooling(**fields), x, training=training)
        y, mask = forward(masked(**fields), x, training=training)
        np.testing.assert_array_equal(y, plain)
        rows = mask.reshape(*shape[:2], -1).astype(np.int64)
        found = np.take_along_axis(x.reshape(*shape[:2], -1), rows, -1)
        np.testing.assert_array_equal(found.reshape(y.shape), y)


def test_only_a_maximum_has_a_place() -> None:
    with pytest.raises(ShapeError, match="AVE has no mask, a second top: MAX has") as caught:
        masked(pool="AVE", kernel_size=2).infer([TensorType((1, 2, 4, 4))])
    assert caught.value.field == "pool"
