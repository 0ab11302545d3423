"""What losses between blobs of numbers share: bottoms that agree, and sums over a sample."""

from __future__ import annotations

from netspec.ir.graph import Ops, Value
from netspec.ir.layer import ShapeError, Types, batched
from netspec.ir.phrases import reshape_samples
from netspec.ir.types import TensorType, occupied, size


def paired(bottoms: Types) -> tuple[TensorType, ...]:
    """The loss of bottoms that agree, a number; a ShapeError unless they do.

    Axes of one cell may be left out, as in Caffe: 4x1x1 goes with 4.
    """
    first, *others = bottoms
    for bottom in bottoms:
        if bottom.dtype != "float32":
            raise ShapeError(
                f"takes numbers, not labels ({bottom})",
                hint='declare what it compares with, `input "target" { shape: … }`, and name both',
            )
    batched(bottoms)
    for other in others:
        if other.batch != first.batch:
            raise ShapeError(f"bottoms have {first.batch} and {other.batch} samples")
        if occupied(other.sample) != occupied(first.sample):
            message = f"bottoms must have one shape, not {size(first.sample)} and "
            raise ShapeError(message + size(other.sample))
    return (first.with_shape(),)


def per_sample(label: TensorType, first: TensorType) -> None:
    """A ShapeError unless `label` has one value for each sample of `first`."""
    batched([label])
    if label.batch != first.batch:
        raise ShapeError(f"{first.batch} samples, but labels for {label.batch}")
    if occupied(label.sample):
        raise ShapeError(f"takes 1 label per sample, not {size(label.sample)}")


def shaped(op: Ops, x: Value, like: Value) -> Value:
    """`x` in the shape of a bottom that it agrees with."""
    return reshape_samples(op, x, *like.type.sample)


def sample_sum(op: Ops, x: Value) -> Value:
    """Σ over all that belongs to a sample: one number for each."""
    axes = range(1, len(x.type.shape))
    return op.ReduceSum(x, op.ints(*axes), keepdims=0) if axes else x


def squared_distance(op: Ops, a: Value, b: Value) -> Value:
    """‖a - b‖² for each sample."""
    difference = op.Sub(a, shaped(op, b, a))
    return sample_sum(op, op.Mul(difference, difference))


def batch_mean(op: Ops, each: Value) -> Value:
    """The mean over the samples."""
    mean: Value = op.ReduceMean(each, op.ints(0), keepdims=0)
    return mean
