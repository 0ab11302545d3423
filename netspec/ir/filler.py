"""Fillers: how a weight is initialised before training."""

from __future__ import annotations

from functools import reduce
from math import prod, sqrt
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator

from netspec.ir.fields import Fields, NonNegativeReal, PositiveReal, Real, Says, whole
from netspec.ir.types import Shape, size

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Filler(Fields):
    """`weight_filler { type: msra }`: the distribution a weight is drawn from."""

    type: Literal[
        "constant", "uniform", "gaussian", "xavier", "msra", "positive_unitball", "bilinear",
        "orthogonal",
    ] = "constant"  # fmt: skip
    """`xavier` draws U(±√(3/n)), `msra` N(0, √(2/n)), n as `variance_norm` says;
    `positive_unitball` draws U(0, 1) and divides by the sum over each output; `bilinear` makes of
    every window the weights with which a `deconv` interpolates; `orthogonal`, which Caffe lacks,
    draws a matrix with a row for each index of the first axis, whose rows are orthonormal, or its
    columns where these are fewer (Saxe et al. 2014, arXiv:1312.6120)."""
    value: Real = 0.0
    """What `constant` fills with."""
    min: Real = 0.0
    """Lower end of `uniform`."""
    max: Real = 1.0
    """Upper end of `uniform`."""
    mean: Real = 0.0
    """Mean of `gaussian`."""
    std: NonNegativeReal = 1.0
    """Standard deviation of `gaussian`."""
    gain: PositiveReal = 1.0
    """Multiplies what `orthogonal` draws; √2 makes up for what a ReLU loses."""
    sparse: Annotated[int, BeforeValidator(whole(-1)), Says("whole number from 0, or -1")] = -1
    """Of `gaussian`: how many weights of an output are not 0, to be expected; -1: all."""
    variance_norm: Literal["FAN_IN", "FAN_OUT", "AVERAGE"] = "FAN_IN"
    """Which n `xavier` and `msra` divide by: inputs of a cell, outputs, or their mean."""

    def fan(self, shape: Shape) -> float:
        """n of a weight: count/shape[0] in, count/shape[1] out (Caffe, `filler.hpp`)."""
        count = prod(shape)
        fan_in = count / shape[0] if shape else 1.0
        fan_out = count / shape[1] if len(shape) > 1 else float(count)
        if self.variance_norm == "FAN_IN":
            return fan_in
        return fan_out if self.variance_norm == "FAN_OUT" else (fan_in + fan_out) / 2

    def misfit(self, shape: Shape) -> str | None:
        """Why it cannot fill a weight of `shape`, if so."""
        if self.type == "bilinear" and len(shape) < 3:
            return f"bilinear fills windows, and a weight of {size(shape)} has none"
        if self.type == "orthogonal" and len(shape) < 2:
            return f"orthogonal fills matrices, and a weight of {size(shape)} is none"
        if "gain" in self.model_fields_set and self.type != "orthogonal":
            return f"orthogonal alone has a gain, not {self.type}"
        if self.sparse >= 0 and self.type != "gaussian":
            return f"gaussian alone may be sparse, not {self.type}"
        if self.sparse > (shape[0] if shape else 1):
            return f"sparse {self.sparse} of the {shape[0] if shape else 1} of {size(shape)}"
        return None

    def sample(self, shape: Shape, generator: np.random.Generator) -> npt.NDArray[np.float32]:
        """A float32 array of `shape`, drawn from `generator`."""
        import numpy as np

        match self.type:
            case "constant":
                return np.full(shape, self.value, np.float32)
            case "uniform":
                drawn = generator.uniform(self.min, self.max, shape)
            case "gaussian":
                drawn = generator.normal(self.mean, self.std, shape)
                if self.sparse >= 0:  # a lot for each, as Caffe draws them
                    drawn *= generator.random(shape) < self.sparse / shape[0]
            case "xavier":
                limit = sqrt(3 / self.fan(shape))
                drawn = generator.uniform(-limit, limit, shape)
            case "msra":
                drawn = generator.normal(0.0, sqrt(2 / self.fan(shape)), shape)
            case "positive_unitball":
                drawn = generator.uniform(0.0, 1.0, shape)
                drawn /= drawn.sum(tuple(range(1, len(shape))), keepdims=True)
            case "bilinear":
                tents = reduce(np.multiply.outer, map(_tent, shape[2:]))
                drawn = np.broadcast_to(tents, shape)
            case "orthogonal":
                drawn = self.gain * _orthogonal(shape[0], prod(shape[1:]), generator).reshape(shape)
        return np.array(drawn, np.float32)


def _orthogonal(rows: int, columns: int, generator: np.random.Generator) -> npt.NDArray[np.float64]:
    """A random matrix with QᵀQ or QQᵀ the identity, as `torch.nn.init.orthogonal_` draws it.

    Q of a QR decomposition of normal numbers, in float64; with R's diagonal above 0 it is unique,
    and no orthogonal matrix is likelier than another (Mezzadri 2007, arXiv:math-ph/0609050).
    """
    import numpy as np

    tall, flat = max(rows, columns), min(rows, columns)
    q, r = np.linalg.qr(generator.normal(size=(tall, flat)))
    q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return q if rows >= columns else q.T


def _tent(cells: int) -> npt.NDArray[np.float64]:
    """A window's weights on one axis, falling from its middle (Caffe's BilinearFiller)."""
    import numpy as np

    half = -(-cells // 2)
    weights: npt.NDArray[np.float64] = 1 - np.abs(np.arange(cells) - (cells - 1) / 2) / half
    return weights
