"""Axes of charts: round numbers at which to draw lines, and how they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Axis:
    """A range of numbers on a line of pixels."""

    low: float
    high: float
    log: bool = False

    def place(self, value: float) -> float:
        """Where a value lies: 0 at the low end, 1 at the high one."""
        if self.log:
            value = max(value, self.low)  # 0 has no place
            return log10(value / self.low) / log10(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int) -> list[float]:
        """Round numbers within, at most so many."""
        found = self._powers(most) if self.log else []
        if len(found) >= 2:
            return found
        return self._apart(_steps(self.low, self.high, most), most)

    def _powers(self, most: int) -> list[float]:
        """Those of ten with 2 and 5 times them, or 3 times, or alone, or every second and so on."""
        first, last = floor(log10(self.low)), ceil(log10(self.high))
        for parts in ((1, 2, 5), (1, 3), (1,)):
            found = self._within(part * 10.0**k for k in range(first, last + 1) for part in parts)
            if len(found) <= most:
                return found
        step = ceil((last - first) / most)
        return self._within(10.0**k for k in range(first, last + 1) if k % step == 0)

    def _apart(self, values: Iterable[float], most: int) -> list[float]:
        """Those that leave room for what is written beside the one before."""
        found: list[float] = []
        for x in self._within(values):
            if not found or self.place(x) - self.place(found[-1]) >= 0.5 / most:
                found.append(x)
        return found

    def _within(self, values: Iterable[float]) -> list[float]:
        return [x for x in values if self.low <= x <= self.high]


def axis(low: float, high: float, *, log: bool = False) -> Axis:
    """An axis that holds both ends, rounded outward a little; never of no length."""
    if log:
        return Axis(low / 1.1, high * 1.1, log=True)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        reach = abs(low) * 0.5 or 1.0
        return Axis(low - reach, high + reach)
    room = 0.04 * (high - low)
    return Axis(low - room if low else 0.0, high + room)


def _steps(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / most
    power = 10.0 ** floor(log10(rough))
    step = next(part * power for part in (1, 2, 5, 10) if part * power >= rough * (1 - 1e-9))
    return [k * step for k in range(ceil(low / step), floor(high / step) + 1)]


Says: TypeAlias = Callable[[float], str]
"""How a number is written."""


def number(value: float) -> str:
    """A number on an axis: `0.05`, `1,000`, `1e-06`."""
    if value and not 1e-3 <= abs(value) < 1e12:
        return f"{value:.3g}"
    return f"{value:,.6g}" if abs(value) < 1e6 else f"{value / 1e6:,.6g}M"


def percent(value: float) -> str:
    """A share: `97.5%`."""
    return f"{100 * value:.4g}%"
