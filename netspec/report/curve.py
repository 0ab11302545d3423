"""Series of numbers, thinned while they grow: a million take no more room than a thousand."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

MOST = 600
"""Points of a curve: about the pixels of a plot."""


@dataclass(frozen=True, slots=True)
class Point:
    """Some neighbouring values."""

    x: float
    """Where the last of them is."""
    mean: float
    low: float
    high: float
    count: int

    def joined(self, other: Point) -> Point:
        """With those that come next."""
        count = self.count + other.count
        mean = (self.mean * self.count + other.mean * other.count) / count
        return Point(other.x, mean, min(self.low, other.low), max(self.high, other.high), count)


class Curve:
    """Values by a growing x; once there are too many, neighbours are joined two by two.

    What it holds depends on the values alone, so that a curve which is read again is the same.
    Values that are not finite are left out.
    """

    def __init__(self) -> None:
        self._points: list[Point] = []
        self._width = 1

    def add(self, x: float, value: float | None) -> None:
        """The next value."""
        if value is None or not isfinite(value):
            return
        point = Point(x, value, value, value, 1)
        if self._points and self._points[-1].count < self._width:
            self._points[-1] = self._points[-1].joined(point)
            return
        self._points.append(point)
        if len(self._points) > MOST:
            pairs = zip(self._points[::2], self._points[1::2], strict=False)
            odd = self._points[-1:] if len(self._points) % 2 else []
            self._points = [one.joined(other) for one, other in pairs] + odd
            self._width *= 2

    @property
    def points(self) -> tuple[Point, ...]:
        """The values, thinned."""
        return tuple(self._points)


def smoothed(points: tuple[Point, ...], reach: int) -> list[float]:
    """The means of each point and up to `reach` on either side, fewer at the ends."""
    sums, counts = [0.0], [0]
    for point in points:
        sums.append(sums[-1] + point.mean * point.count)
        counts.append(counts[-1] + point.count)
    means = []
    for at in range(len(points)):
        near = min(reach, at, len(points) - 1 - at)  # symmetric, so that no end is pulled along
        first, last = at - near, at + near + 1
        means.append((sums[last] - sums[first]) / (counts[last] - counts[first]))
    return means
