"""Going back over a stride: the cells that lie alike between the windows, axis by axis."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Phase:
    """Every s-th cell of an axis, from one on: which taps of the windows meet these cells."""

    taps: tuple[tuple[int, int], ...]
    """(o, i): the i-th tap of window c + o meets the phase's c-th cell; ordered by o."""
    cells: int
    positions: int

    @property
    def indices(self) -> list[int]:
        """The taps alone."""
        return [tap for _, tap in self.taps]

    @property
    def pads(self) -> tuple[int, int]:
        """Windows that are missing before the first and after the last; negative: too many."""
        low, high = self.taps[0][0], self.taps[-1][0]
        return -low, self.cells - 1 + high - (self.positions - 1)


def phases(kernel: int, stride: int, pad: int, size: int, positions: int) -> list[Phase]:
    """The phases of an axis of `size` cells under so many windows, rounded up to equal lengths."""
    found = []
    for first in range(stride):
        met = sorted(
            ((first + pad - tap) // stride, tap)
            for tap in range(kernel)
            if (first + pad - tap) % stride == 0
        )
        found.append(Phase(tuple(met), -(-size // stride), positions))
    return found


def can_convolve(axis: list[Phase]) -> bool:
    """Whether every phase is a convolution of what the windows hold, none of it left out."""
    return all(phase.taps and min(phase.pads) >= 0 for phase in axis)
