"""What layers and gradient rules say again and again in ONNX operators."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from netspec.ir.graph import Ops, Value
from netspec.ir.types import Shape, TensorType


def reshape(op: Ops, x: Value, *shape: int) -> Value:
    """`x` with another shape; itself if it has that shape."""
    if x.type.shape == shape:
        return x
    reshaped: Value = op.Reshape(x, op.ints(*shape))
    return reshaped


def reshape_samples(op: Ops, x: Value, *sample: int) -> Value:
    """`x` with each sample in another shape, whatever the batch; itself if they have that shape."""
    if x.type.sample == sample:
        return x
    reshaped: Value = op.Reshape(x, op.ints(0, *sample))
    return reshaped


def sum_over(op: Ops, x: Value, axes: Sequence[int]) -> Value:
    """`x` summed over `axes`, which vanish: trailing ones first, then the others.

    onnxruntime's CUDA has fast kernels only for one block of axes that touches the first or the
    last; the two stages over N,H,W each are one. Where they are none, `keepdims` shows the target
    which axes go.
    """
    wide = [axis for axis in axes if x.type.shape[axis] > 1]
    last = len(x.type.shape)
    while last - 1 in wide or (last and x.type.shape[last - 1] == 1):
        last -= 1
    kept = tuple(n for axis, n in enumerate(x.type.shape) if axis not in axes)
    ends, others = [a for a in wide if a >= last], [a for a in wide if a < last]
    if ends:
        x = op.ReduceSum(x, op.ints(*ends), keepdims=0)
    if others:
        before = enumerate(x.type.shape[: max(others)])
        first = all(n == 1 or axis in others for axis, n in before)
        x = op.ReduceSum(x, op.ints(*others), keepdims=int(not first))
    return reshape(op, x, *kept)


def sum_to(op: Ops, x: Value, shape: Shape) -> Value:
    """The adjoint of ONNX's broadcast from `shape` to the shape of `x`."""
    if x.type.shape == shape:
        return x
    lead = len(x.type.shape) - len(shape)
    axes = [
        axis
        for axis, n in enumerate(x.type.shape)
        if axis < lead or (shape[axis - lead] == 1 and n > 1)
    ]
    return reshape(op, sum_over(op, x, axes), *shape)


def spread(op: Ops, x: Value, shape: Shape) -> Value:
    """`x` broadcast to `shape`; itself if it has that shape."""
    if x.type.shape == shape:
        return x
    expanded: Value = op.Expand(x, op.ints(*shape))
    return expanded


def zeros(op: Ops, shape: Shape, dtype: str) -> Value:
    """Zeros that are written when they are needed, and so weigh nothing in the model."""
    return spread(op, op.scalar(0.0, dtype), shape)


def pad(op: Ops, x: Value, before: Sequence[int], after: Sequence[int]) -> Value:
    """`x` with zeros added on its last axes; a negative count crops.

    The axes are always given: a Pad without them is folded by onnxruntime into a Conv or a pool
    behind it, which cuDNN then refuses.
    """
    lead = len(x.type.shape) - len(before)
    touched = [i for i in range(len(before)) if before[i] or after[i]]
    if not touched:
        return x
    counts = [before[i] for i in touched] + [after[i] for i in touched]
    padded: Value = op.Pad(x, op.ints(*counts), None, op.ints(*(lead + i for i in touched)))
    return padded


def slope(op: Ops, x: Value, low: float, high: float) -> Value:
    """`high` where x > 0, `low` where x < 0, and at 0 the nearest to 0 of what lies between.

    Times the largest number, every normal number is at least 1 in size. With the Mul behind it, the
    fastest on the CPU of what CUDA runs too: 0.5 ms for 8 MB, where Greater, Cast and Mul take 0.8,
    Where 1.5 and Sign 2.2.
    """
    import numpy as np  # late: `check` loads layers, and does without

    assert low <= high, (low, high)
    dtype = x.type.dtype
    largest = float(np.finfo(dtype).max)
    steep = op.Mul(x, op.scalar(largest, dtype))
    clipped: Value = op.Clip(steep, op.scalar(low, dtype), op.scalar(high, dtype))
    return clipped


def cast_to(op: Ops, x: Value, dtype: str) -> Value:
    """`x` in another element type; a boolean becomes 0 and 1."""
    import numpy as np

    cast: Value = op.Cast(x, to=str(np.dtype(dtype)))
    return cast


def scale(op: Ops, x: Value, factor: float) -> Value:
    """`x` times a number; itself if that is 1."""
    if factor == 1:
        return x
    scaled: Value = op.Mul(x, op.scalar(factor, x.type.dtype))
    return scaled


def affine(op: Ops, x: Value, factor: float, summand: float) -> Value:
    """`x` times a number plus a number, without what changes nothing."""
    scaled = scale(op, x, factor)
    if summand == 0:
        return scaled
    shifted: Value = op.Add(scaled, op.scalar(summand, x.type.dtype))
    return shifted


def relu6(op: Ops, x: Value) -> Value:
    """min(max(x, 0), 6); of a tie `Min` lets its first operand win, so 6 itself has no slope."""
    held: Value = op.Min(op.scalar(6.0, x.type.dtype), op.Relu(x))
    return held


def scatter(
    op: Ops, shape: Shape, indices: Value, updates: Value, axis: int, *, add: bool = True
) -> Value:
    """Zeros of `shape` with `updates` where `indices` point along `axis`; added unless told not to.

    Without adding, no index may come twice.
    """
    data = zeros(op, shape, updates.type.dtype)
    reduction = "add" if add else "none"
    scattered: Value = op.ScatterElements(data, indices, updates, axis=axis, reduction=reduction)
    return scattered


def planes(op: Ops, x: Value) -> Value:
    """N x C x … as one row per image and channel."""
    n, c, *extent = x.type.shape
    return reshape(op, x, n * c, prod(extent))


def place_in_plane(op: Ops, index: Value, among: TensorType, plane: TensorType) -> Value:
    """Where a cell lies in a plane of `plane`, row by row, by its index in `among`, which is
    `plane` without some last rows and columns."""

    def over(value: Value, by: int) -> tuple[Value, Value]:
        """Quotient and remainder."""
        count = op.scalar(by, "int64")
        quotient = op.Div(value, count)
        return quotient, op.Sub(value, op.Mul(quotient, count))

    _, place = over(index, prod(among.spatial))
    if among.spatial[1:] == plane.spatial[1:]:
        return place
    row, column = over(place, among.spatial[-1])
    moved: Value = op.Add(op.Mul(row, op.scalar(plane.spatial[-1], "int64")), column)
    return moved


def channel_mean(op: Ops, x: Value) -> Value:
    """The mean of every channel, over the plane and then the batch: each is fast on CUDA."""
    if x.type.spatial:
        x = op.ReduceMean(x, op.ints(*range(2, len(x.type.shape))), keepdims=1)
    mean: Value = op.ReduceMean(x, op.ints(0), keepdims=1)
    return mean
