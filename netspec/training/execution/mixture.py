"""What the host draws for a batch whose samples are mixed: partners, shares and boxes."""

from __future__ import annotations

from math import copysign, cos, expm1, log, pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netspec.codegen.mixing import Mix
from netspec.data.order import key, permutation, squares


def drawn_mixture(mix: Mix, seed: int, iteration: int) -> dict[str, NDArray[Any]]:
    """The tensors of `mix.fed`, from seed and iteration alone.

    With mixup and CutMix both, half of the batches have the one and half the other.
    """
    lots = _lots(key(seed, "mix", iteration), 5)
    cuts = bool(mix.cutmix) and (not mix.mixup or lots[0] < 0.5)
    share = beta(mix.cutmix if cuts else mix.mixup, *lots[1:3])
    blend, box = (0.0, _box(share, mix.extent, *lots[3:])) if cuts else (share, (0, 0, *mix.extent))
    if cuts:
        height, width = mix.extent
        top, left, bottom, right = box
        share = 1 - (bottom - top) * (right - left) / (height * width)
    partners = permutation(mix.batch, key(seed, "mix partners", iteration))
    made = {"partners": partners, "share": share, "blend": blend, "box": box}
    return {name: np.asarray(made[name], value.type.dtype) for name, value in mix.fed.items()}


def beta(alpha: float, u: float, v: float) -> float:
    """λ of Beta(α, α) from two uniform numbers of (0, 1).

    t = √(2α·(u^(-1/α) - 1))·cos(2πv) is Student's with 2α degrees of freedom (Bailey 1994, "Polar
    generation of random variates with the t-distribution"), and λ = (1 + t/√(2α + t²))/2 then
    symmetrically beta (Devroye 1986, "Non-uniform random variate generation").
    """
    exponent = -log(u) / alpha
    direction = cos(2 * pi * v)
    if exponent > 700:  # beyond what a float holds: t is infinite
        return 1.0 if direction > 0 else 0.0
    square = expm1(exponent) * direction**2
    return 0.5 * (1 + copysign(sqrt(square / (1 + square)), direction))


def _box(share: float, extent: tuple[int, ...], u: float, v: float) -> tuple[int, int, int, int]:
    """First row and column, and those behind: 1 - λ of the area about any pixel, cut off at the
    border (Yun et al. 2019, `rand_bbox` of their code)."""
    side = sqrt(1 - share)
    spans = []
    for n, lot in zip(extent, (u, v), strict=True):
        middle, half = int(lot * n), int(n * side) // 2
        spans.append((max(middle - half, 0), min(middle + half, n)))
    (top, bottom), (left, right) = spans
    return top, left, bottom, right


def _lots(stream: int, count: int) -> list[float]:
    """Uniform numbers of (0, 1): odd multiples of 2^-53."""
    words = squares(stream, np.arange(1, 2 * count + 1, dtype=np.uint64)).astype(np.uint64)
    high, low = words.reshape(count, 2).T
    odd = ((high << np.uint64(20)) | (low >> np.uint64(12))) * np.uint64(2) + np.uint64(1)
    return [float(x) * 2.0**-53 for x in odd]
