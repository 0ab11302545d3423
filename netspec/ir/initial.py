"""Initial weights: each drawn by its filler from a stream of its own."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from netspec.ir.net import Net

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def initial_weights(net: Net, seed: int) -> dict[str, npt.NDArray[np.float32]]:
    """A float32 array per parameter, by name.

    The stream hangs on (seed, name) alone, so a layer added elsewhere changes no other weight.
    """
    return {p.name: p.filler.sample(p.shape, _stream(seed, p.name)) for p in net.parameters}


def initial_statistics(net: Net) -> dict[str, npt.NDArray[np.float32]]:
    """A float32 array per statistic, by net-wide name."""
    import numpy as np

    return {name: np.full(s.shape, s.initial, np.float32) for name, s in net.statistics.items()}


def neutral_statistics(net: Net) -> dict[str, npt.NDArray[np.float32]]:
    """A float32 array per statistic, for a net that runs before anything has trained it.

    Caffe's sums begin at 0, which stands for a variance of 0: thirty such layers overflow.
    """
    import numpy as np

    values = {n: s.initial if s.neutral is None else s.neutral for n, s in net.statistics.items()}
    return {n: np.full(s.shape, values[n], np.float32) for n, s in net.statistics.items()}


def _stream(seed: int, name: str) -> np.random.Generator:
    import numpy as np

    digest = sha256(f"{seed}:{name}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
