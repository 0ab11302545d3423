"""What transforms of filters count: each learned once, and applied in every one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netspec.ir.types import TensorType
from netspec.layers.convolution import Convolution

X = TensorType((2, 6, 9, 9))


@pytest.mark.parametrize(
    ("fields", "channels"),
    [
        ({}, 4 * 3),
        ({"pool_transforms": "MAX"}, 4),
    ],
)
def test_counts(fields: Any, channels: int) -> None:
    layer = Convolution.model_validate(
        {"num_output": 4, "kernel_size": 3, "group": 2, "transforms": ["rot90", "flip"], **fields}
    )
    assert layer.infer([X])[0].shape == (2, channels, 7, 7)
    assert layer.parameters([X]) == 4 * 3 * 9 + 4
    assert layer.macs([X]) == 2 * 4 * 3 * 7 * 7 * 3 * 9


def test_the_largest_map_of_all_quarter_turns_turns_with_its_input(forward: Any) -> None:
    layer = Convolution.model_validate(
        {"num_output": 4, "kernel_size": 3, "transforms": ["rot90", "rot180", "rot270"]}
        | {"pool_transforms": "MAX"}
    )
    x = np.random.default_rng(0).normal(size=X.shape).astype(np.float32)
    given = {"weight0": np.random.default_rng(1).normal(size=(4, 6, 3, 3)), "weight1": np.ones(4)}
    (y,) = forward(layer, x, **given)
    (turned,) = forward(layer, np.rot90(x, axes=(2, 3)).copy(), **given)
    np.testing.assert_allclose(turned, np.rot90(y, axes=(2, 3)), rtol=1e-4, atol=1e-4)
