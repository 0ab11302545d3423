"""Where the parts of a picture stand: Graphviz's layered layout, over sizes that we know."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from io import StringIO
from itertools import takewhile
from typing import Any, TypeAlias
from unicodedata import east_asian_width

import numpy as np
from numpy.typing import NDArray

from netspec.diagnostics import UsageError
from netspec.report.picture import Drawn, Picture, Wire

INSTALL = "pip install netspec[draw]"
"""The line that brings Graphviz."""

CELL, LINE = 6.7, 15.0
"""Width of a character and height of a line at 11 pixels, in a font whose characters are alike."""

STRIP = 24.0
"""Height of the strip on top of a box where its name stands."""

_LONGEST = 40
"""Characters of a name that a picture shows."""

_LARGEST = 100_000
"""Pixels of a side: Graphviz writes five digits."""

Point: TypeAlias = tuple[float, float]
Curve: TypeAlias = tuple[Point, ...]
"""Bézier curves end to end: a start, and three points for each piece."""


@dataclass(frozen=True, slots=True)
class Rectangle:
    """In pixels, y downwards."""

    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> Point:
        return self.x + self.width / 2, self.y + self.height / 2


@dataclass(frozen=True, slots=True)
class Line:
    """A part of a wire: a curve, and the tip of its arrow if it ends at a node."""

    curve: Curve
    tip: Point | None


@dataclass(frozen=True, slots=True)
class Placed:
    """A picture with a place for everything."""

    picture: Picture
    width: float
    height: float
    nodes: tuple[Rectangle, ...]
    boxes: tuple[tuple[str, Rectangle], ...]
    """Names and places of the blocks, outer ones first."""
    lines: tuple[Line, ...]
    texts: tuple[tuple[str, Rectangle], ...]
    """The shapes on the wires."""


def place(picture: Picture) -> Placed:
    """Lay a picture out, top to bottom; UsageError where Graphviz is not installed."""
    try:
        from pygraphviz import AGraph
    except ImportError:
        raise UsageError(f"pictures are laid out by Graphviz; {INSTALL}") from None
    boxes: list[str] = []
    graph = AGraph(string="\n".join(_dot(picture, boxes)))
    with redirect_stderr(
        StringIO()
    ):  # its word that more than 1,000 nodes take long: it is seconds
        said = graph.draw(format="json0", prog="dot")
    placed = _placed(picture, boxes, json.loads(said))
    if max(placed.width, placed.height) >= _LARGEST:
        raise UsageError(
            f"a side of the picture has more than {_LARGEST:,} pixels; "
            "--depth 1 draws each block as one node"
        )
    return placed


def cells(text: str) -> int:
    """Columns that a text takes; wide characters take two."""
    return sum(2 if east_asian_width(char) in "WF" else 1 for char in text)


def shortened(text: str) -> str:
    """A name with its middle left out if it is long."""
    half = _LONGEST // 2
    return text if cells(text) <= _LONGEST else f"{text[: half - 1]}…{text[-half:]}"


@dataclass
class _Box:
    """A block on its way into a cluster: what stands in it itself, and the blocks within."""

    items: list[str] = field(default_factory=list)
    inner: dict[str, _Box] = field(default_factory=dict)

    def at(self, path: Sequence[str]) -> _Box:
        box = self
        for name in path:
            box = box.inner.setdefault(name, _Box())
        return box


def _dot(picture: Picture, boxes: list[str]) -> Iterator[str]:
    """The picture in Graphviz's language, no word of the spec's in it; names the `boxes` it makes.

    A shape on a wire is a node too, so that nothing is laid over it.
    """
    root = _Box()
    for at, node in enumerate(picture.nodes):
        root.at(node.box).items.append(_item(f"n{at}", _node_size(node)))
    for at, wire in enumerate(picture.wires):
        if wire.text:
            root.at(_around(wire, picture)).items.append(_item(f"t{at}", _text_size(wire.text)))
    yield "digraph { graph [labeljust=l, nodesep=0.2, ranksep=0.2, pad=0, ordering=out]"
    yield 'node [shape=box, fixedsize=true, label=""]; edge [arrowsize=0.6]'
    yield from _cluster(root, boxes)
    for at, wire in enumerate(picture.wires):
        start = f"n{wire.start}"
        if wire.text:
            yield f"{start} -> t{at} [dir=none, weight=2]"
            start = f"t{at}"
        for end in wire.ends:
            yield f"{start} -> n{end}"
    yield "}"


def _around(wire: Wire, picture: Picture) -> tuple[str, ...]:
    """The innermost box that holds both ends of a wire."""
    boxes = [picture.nodes[at].box for at in (wire.start, *wire.ends)]
    levels = zip(*boxes, strict=False)
    return tuple(names[0] for names in takewhile(lambda names: len({*names}) == 1, levels))


def _item(name: str, size: tuple[float, float]) -> str:
    width, height = size
    return f"{name} [width={width / 72:.4f}, height={height / 72:.4f}]"


def _cluster(box: _Box, boxes: list[str]) -> Iterator[str]:
    yield from box.items
    for name, inner in box.inner.items():
        while not inner.items and len(inner.inner) == 1:  # a box in a box is one
            ((below, inner),) = inner.inner.items()
            name = f"{name}/{below}"
        width = 2 * CELL * cells(shortened(name)) + 16  # on either side of a wire in the middle
        room = f'BORDER="0" FIXEDSIZE="TRUE" WIDTH="{width:.0f}" HEIGHT="{LINE:.0f}"'
        yield f"subgraph cluster_{len(boxes)} {{ graph [margin=8"
        yield f", label=<<TABLE {room}><TR><TD></TD></TR></TABLE>>]"
        boxes.append(name)
        yield from _cluster(inner, boxes)
        yield "}"


def _node_size(node: Drawn) -> tuple[float, float]:
    widest = max(cells(shortened(line)) for line in node.lines)
    return max(60.0, CELL * widest + 20), LINE * len(node.lines) + 10


def _text_size(text: str) -> tuple[float, float]:
    return CELL * cells(text) + 6, LINE


def _placed(picture: Picture, boxes: Sequence[str], said: Mapping[str, Any]) -> Placed:
    """What Graphviz says, as JSON, turned so that y grows downwards."""
    _, _, width, height = map(float, said["bb"].split(","))
    found: dict[str, Rectangle] = {}
    for item in said.get("objects", ()):
        if "bb" in item:
            left, low, right, high = map(float, item["bb"].split(","))
            found[item["name"]] = Rectangle(left, height - high, right - left, high - low)
        else:
            x, y = _point(item["pos"], height)
            w, h = 72 * float(item["width"]), 72 * float(item["height"])
            found[item["name"]] = Rectangle(x - w / 2, y - h / 2, w, h)
    return Placed(
        picture,
        width,
        height,
        tuple(found[f"n{at}"] for at in range(len(picture.nodes))),
        tuple((name, found[f"cluster_{at}"]) for at, name in enumerate(boxes)),
        tuple(_line(item["pos"], height) for item in said.get("edges", ())),
        tuple((w.text, found[f"t{at}"]) for at, w in enumerate(picture.wires) if w.text),
    )


def _point(text: str, height: float) -> Point:
    x, y = text.split(",")
    return float(x), height - float(y)


def _line(pos: str, height: float) -> Line:
    """`e,x,y p0 p1 …`, the arrow's tip first, or `p0 p1 …` without an arrow."""
    first, *points = pos.split(" ")
    if not first.startswith("e,"):
        return Line(tuple(_point(p, height) for p in (first, *points)), None)
    tip = _point(first.removeprefix("e,"), height)
    return Line(tuple(_point(p, height) for p in points), tip)


def name_places(placed: Placed) -> Iterator[float]:
    """Where each box's name begins in the strip on top of it: the leftmost place without a wire.

    Where there is none, at the left all the same.
    """
    points = np.concatenate([_points(line) for line in placed.lines] or [np.empty((0, 2))])
    for name, box in placed.boxes:
        x, y = points.T
        within = (x >= box.x) & (x <= box.x + box.width) & (y >= box.y) & (y <= box.y + STRIP)
        width = CELL * cells(shortened(name)) + 4
        start = first = box.x + 8
        for wire in [*sorted(x[within].tolist()), box.x + box.width]:
            if wire - start >= width:
                first = start
                break
            start = max(start, wire + 6)
        yield first


_T = np.linspace(0, 1, 17)[:, None]
"""Where each piece of a curve is looked at."""


def _points(line: Line) -> NDArray[np.float64]:
    """Points on a line, close to each other: (n, 2)."""
    curve = np.array(line.curve)
    a, b, c, d = (curve[at : len(curve) - 3 + at : 3] for at in range(4))
    pieces = [
        (1 - t) ** 3 * a + 3 * t * (1 - t) ** 2 * b + 3 * t * t * (1 - t) * c + t**3 * d for t in _T
    ]
    return np.concatenate([*pieces, *([[line.tip]] if line.tip else [])])
