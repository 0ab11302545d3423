"""Curves as SVG, whole in itself: a frame, round numbers, lines, and values to point at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from netspec.report.axis import Axis, Says, axis, number
from netspec.report.curve import Curve, Point, smoothed
from netspec.report.page import words

_WIDTH, _HEIGHT = 440, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 10, 36
_POINTED = 60
"""Values of a line that tell their number when pointed at."""
_NOISY = 40
"""Points from which on a line that is not `exact` is smoothed."""

STYLE = """
.charts { display: grid; gap: 16px 24px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 380px), 1fr)); }
.chart { margin: 0; max-width: 560px; }
.chart figcaption { display: flex; flex-wrap: wrap; gap: 0 14px; align-items: baseline; }
.chart b { font-weight: 600; }
.key { color: var(--muted); font-size: 13px; }
.key::before { content: ""; display: inline-block; width: 16px; height: 3px; margin: 0 5px 4px 0;
  border-radius: 2px; background: var(--ink); }
.note { color: var(--muted); font-size: 13px; }
.chart svg { display: block; width: 100%; height: auto; overflow: visible; }
.chart text { fill: var(--muted); font-size: 11px; }
.chart .grid { stroke: var(--line); fill: none; }
.chart .curve { stroke: var(--ink); fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.chart .band { fill: var(--ink); fill-opacity: .2; stroke: none; }
.chart .dot { fill: var(--ink); }
.chart .point { fill: transparent; pointer-events: all; }
.chart .point:hover { fill: var(--ink); }
.ink0 { --ink: var(--blue); }
.ink1 { --ink: var(--orange); }
.ink2 { --ink: var(--green); }
.ink3 { --ink: var(--purple); }
"""
"""Of the charts of a page."""


@dataclass(frozen=True)
class Line:
    """One curve of a chart."""

    name: str
    curve: Curve
    ink: int
    """Which of the four colours."""
    exact: bool = False
    """Not to be smoothed: each value is what it is."""

    @property
    def points(self) -> tuple[Point, ...]:
        return self.curve.points


def chart(
    title: str, lines: Sequence[Line], across: str, *, log: bool = False, says: Says = number
) -> str:
    """A figure of lines over a common x, which `across` names; empty if they have no point.

    A noisy line is drawn as the means of its neighbours, over a band of all its values. `log` asks
    for a logarithmic scale, which is taken if the values are above 0 and differ tenfold; `says`
    writes them.
    """
    lines = [line for line in lines if line.points]
    if not lines:
        return ""
    points = [point for line in lines for point in line.points]
    low, high = min(p.low for p in points), max(p.high for p in points)
    log = log and low > 0 and high >= 10 * low
    x = axis(min(0.0, *(p.x for p in points)), max(p.x for p in points))
    frame = _Frame(Axis(x.low, max(p.x for p in points) or x.high), axis(low, high, log=log), says)
    scale = '<span class="note">log scale</span>' if log else ""
    keys = (f'<span class="key ink{line.ink}">{words(line.name)}</span>' for line in lines)
    return "\n".join(
        [
            f'<figure class="chart"><figcaption><b>{words(title)}</b>{"".join(keys)}{scale}'
            "</figcaption>",
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{words(title)}">',
            *frame.grid(across),
            *(part for line in lines for part in frame.line(line)),
            "</svg></figure>",
        ]
    )


@dataclass(frozen=True)
class _Frame:
    """Where numbers lie on the drawing."""

    x: Axis
    y: Axis
    says: Says

    def across(self, value: float) -> float:
        return _LEFT + self.x.place(value) * (_WIDTH - _LEFT - _RIGHT)

    def down(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - self.y.place(value) * (_HEIGHT - _TOP - _BOTTOM)

    def grid(self, across: str) -> Iterator[str]:
        right, floor = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
        for tick in self.y.ticks(6):
            y = self.down(tick)
            yield f'<path class="grid" d="M{_LEFT} {y:.1f}H{right}"/>'
            yield _text(_LEFT - 6, y + 4, self.says(tick), "end")
        yield f'<path class="grid" d="M{_LEFT} {_TOP}V{floor}H{right}"/>'
        for tick in self.x.ticks(6):
            yield _text(self.across(tick), floor + 15, number(tick), "middle")
        yield _text((_LEFT + right) / 2, _HEIGHT - 5, across, "middle")

    def line(self, line: Line) -> Iterator[str]:
        points = line.points
        noisy = not line.exact and len(points) > _NOISY
        means = smoothed(points, len(points) // 40) if noisy else [p.mean for p in points]
        xs = [self.across(point.x) for point in points]
        yield f'<g class="ink{line.ink}">'
        if noisy:
            highs = [f"{x:.1f} {self.down(p.high):.1f}" for x, p in zip(xs, points, strict=True)]
            lows = [f"{x:.1f} {self.down(p.low):.1f}" for x, p in zip(xs, points, strict=True)]
            yield f'<path class="band" d="M{"L".join(highs + lows[::-1])}z"/>'
        ys = [self.down(mean) for mean in means]
        places = [f"{x:.1f} {y:.1f}" for x, y in zip(xs, ys, strict=True)]
        yield f'<path class="curve" d="M{"L".join(places)}"/>'
        few = len(points) <= _NOISY
        every = -(-len(points) // _POINTED)
        for at in range(len(points) - 1, -1, -every):
            note = f"{line.name}: {self.says(means[at])} at {number(points[at].x)}"
            centre = f'cx="{xs[at]:.1f}" cy="{ys[at]:.1f}"'
            if few:
                yield f'<circle class="dot" r="2.2" {centre}/>'
            yield f'<circle class="point" r="5" {centre}><title>{words(note)}</title></circle>'
        yield "</g>"


def _text(x: float, y: float, said: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words(said)}</text>'
