"""The first layer's filters as pictures: what a network looks for in an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netspec.ir.net import Net
from netspec.report.raster import drawable, to_bytes

_MOST = 128
"""Filters that are drawn."""


@dataclass(frozen=True)
class Filters:
    """Tiles of equal size, in one scale: grey is a weight of 0 where weights are around it."""

    name: str
    """Of the parameter."""
    tiles: NDArray[np.uint8]
    """N x C x H x W, C being 1 or 3."""
    count: int
    """How many there are; not all may be drawn."""


def first_filters(net: Net, weights: Mapping[str, NDArray[Any]]) -> Filters | None:
    """Those of the first layer with weights, if they can be seen.

    A convolution's filters of 1 or 3 channels, O x C x kh x kw; of more, each channel as a filter
    of its own. An inner product on an image has a template of its size for each output.
    """
    for node in net.nodes:
        for parameter in node.parameters[:1]:
            values = weights.get(parameter.name)
            if values is None or not np.isfinite(values).all():
                return None
            tiles = _tiles(values, node.bottom_types[0].sample)
            if tiles is None:
                return None
            drawn = tiles[:_MOST]
            most = float(np.abs(drawn).max()) or 1.0
            return Filters(parameter.name, to_bytes(drawn, (-most, most)), len(tiles))
    return None


def _tiles(values: NDArray[Any], sample: tuple[int, ...]) -> NDArray[Any] | None:
    if values.ndim == 2 and drawable(sample) and values.shape[1] == prod(sample):
        return values.reshape(-1, *sample)
    if values.ndim != 4 or max(values.shape[2:]) < 2:
        return None
    if values.shape[1] in (1, 3):
        return values
    return values.reshape(-1, 1, *values.shape[2:])
