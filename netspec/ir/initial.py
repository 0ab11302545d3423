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


def _stream(seed: int, name: str) -> np.random.Generator:
    import numpy as np

    digest = sha256(f"{seed}:{name}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
