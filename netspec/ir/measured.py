"""What a transform reads beside the samples: from a file, or measured on the training data."""

from __future__ import annotations

from collections.abc import Mapping

from netspec.diagnostics import DataError
from netspec.ir.layer import Phase
from netspec.ir.net import Net
from netspec.ir.transform import MEAN, Transform
from netspec.ir.types import Shape, TensorType, size

CHANNEL_MEAN = "transform#channel_mean"
"""The mean of each channel, in the units of the source."""
CHANNEL_STD = "transform#channel_std"
"""The standard deviation of each channel, in the units of the source; 1 where that is 0."""
WHITENING = "transform#whitening"
"""The matrix that a sample less the mean, as a row, is multiplied by; the scale is in it."""
COLOUR = "transform#colour"
"""The principal components of the pixels' colours in rows, each as long as its deviation."""

MAX_WHITENED = 3072
"""The most values of a sample that is whitened, those of 3x32x32: their covariance, its
eigenvectors and what is computed between take some 400 MB."""


def measured(transform: Transform, *, training: bool) -> tuple[str, ...]:
    """The names of what is measured on the training data for a transform."""
    asked = {
        MEAN: transform.mean == "IMAGE" or bool(transform.whiten),
        CHANNEL_MEAN: transform.mean == "CHANNEL" or transform.standardize,
        CHANNEL_STD: transform.standardize,
        WHITENING: bool(transform.whiten),
        COLOUR: bool(transform.pca_jitter) and training,
    }
    return tuple(name for name, wanted in asked.items() if wanted)


def read_beside(net: Net, transform: Transform) -> tuple[str, ...]:
    """The names of all that a transform reads beside the samples of a net."""
    if not net.transformed:
        return ()
    names = measured(transform, training=net.phase is Phase.TRAIN)
    return (MEAN, *names) if transform.mean_file else names


def beside(net: Net, stored: Mapping[str, TensorType]) -> dict[str, TensorType]:
    """The types of all that the transform of a net reads beside the samples.

    `stored` are the types of the samples before the transform. DataError where it makes no sense.
    """
    transform = net.data.transform if net.data else Transform()
    names = read_beside(net, transform)
    if not names:
        return {}
    samples = dict.fromkeys(stored[name].sample for name in net.transformed)
    field = _field(transform)
    if len(samples) > 1 and MEAN in names:
        raise DataError(f"transform: one {field} for images of {' and '.join(map(size, samples))}")
    sample = next(iter(samples))
    if transform.mean == "IMAGE" and len(sample) != 3:
        raise DataError(f"transform: mean IMAGE is for images, and a sample is {size(sample)}")
    if COLOUR in names and (len(sample) != 3 or sample[0] != 3):
        raise DataError(
            f"transform: pca_jitter is for images of 3 channels, and a sample is {size(sample)}"
        )
    if WHITENING in names:
        _check_whitened(sample)
    types = {
        MEAN: TensorType(sample),
        CHANNEL_MEAN: TensorType(sample[:1]),
        CHANNEL_STD: TensorType(sample[:1]),
        WHITENING: TensorType((TensorType(sample).numel,) * 2),
        COLOUR: TensorType((3, 3)),
    }
    return {name: types[name] for name in names}


def _field(transform: Transform) -> str:
    return "mean_file" if transform.mean_file else "mean" if transform.mean else "whiten"


def _check_whitened(sample: Shape) -> None:
    values = TensorType(sample).numel
    if values > MAX_WHITENED:
        raise DataError(
            f"transform: whiten takes samples of {MAX_WHITENED:,} values at most, and "
            f"{size(sample)} are {values:,}: their covariance alone takes {8 * values**2:,} bytes"
        )
