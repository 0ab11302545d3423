"""Arrays that fillers make, as Caffe's DummyData."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from netspec.data.dataset import Array, afford
from netspec.data.order import key
from netspec.ir.sections import Dummy


def dummy_arrays(dummies: Iterable[Dummy], samples: int) -> dict[str, Array]:
    """An array of so many samples for each, drawn from its filler by its name alone.

    Caffe draws anew for every batch; here each sample has its values, and keeps them.
    """
    arrays: dict[str, Array] = {}
    for dummy in dummies:
        afford(Path(f"dummy `{dummy.top}`"), samples, "samples", dummy.shape, 4)
        generator = np.random.Generator(np.random.Philox(key(0, "dummy", dummy.top)))
        arrays[dummy.top] = dummy.data_filler.sample((samples, *dummy.shape), generator)
    return arrays
