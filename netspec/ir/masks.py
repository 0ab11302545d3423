"""What a MAX pool tells of its maxima, and how they go back to their places."""

from __future__ import annotations

from math import prod

from netspec.ir.graph import Ops, Value
from netspec.ir.phrases import place_in_plane
from netspec.ir.types import Shape


def mask_of(op: Ops, indices: Value, read: Value, x: Value) -> Value:
    """Places in the planes of `x`, row by row, as floats.

    ONNX's `indices` count through all of `read`, which may lack the last rows and columns of `x`.
    """
    place = place_in_plane(op, indices, read.type, x.type)
    mask: Value = op.Cast(place, to="float32")
    return mask


def unpooled(op: Ops, x: Value, mask: Value, extent: Shape) -> Value:
    """Planes of `extent` with each value at its place, one beyond the end in the last cell, else 0.

    The zeros are made of the mask, whose first axis is the batch, of whatever size.
    """
    cells = prod(extent)
    values, places = (op.Reshape(v, op.ints(0, 0, -1)) for v in (x, mask))
    places = op.Clip(places, op.scalar(0), op.scalar(cells - 1))
    first = op.Slice(places, op.ints(0), op.ints(1), op.ints(2))
    none = op.Expand(op.Sub(first, first), op.ints(1, 1, cells))
    spread = op.ScatterElements(none, op.Cast(places, to="int64"), values, axis=2)
    top: Value = op.Reshape(spread, op.ints(0, x.type.channels, *extent))
    return top
