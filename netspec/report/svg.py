"""A placed picture as SVG: one file that every browser shows, every word of a spec escaped."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape

from netspec.diagnostics import printable
from netspec.report.layout import LINE, Placed, Rectangle, name_places, place, shortened
from netspec.report.picture import Drawn, Picture

_MARGIN = 16.0

STYLE = """
.net { background: #fff; font: 11px ui-monospace, SFMono-Regular, Menlo, Consolas,
  "DejaVu Sans Mono", monospace; }
.net rect { stroke: #64748b; fill: #fff; }
.net .box { stroke: #94a3b8; stroke-dasharray: 4 3; fill: #475569; fill-opacity: .05; }
.net .name { fill: #475569; font-weight: bold; }
.net .input rect { fill: #e2e8f0; }
.net .learned rect { fill: #dbeafe; }
.net .loss rect { fill: #fee2e2; }
.net .metric rect { fill: #dcfce7; }
.net .block rect { fill: #ede9fe; stroke-width: 2; }
.net .node text { text-anchor: middle; fill: #0f172a; }
.net .node text + text { fill: #475569; }
.net .wire { fill: none; stroke: #64748b; }
.net .tip { marker-end: url(#tip); }
.net .shape { text-anchor: middle; fill: #64748b; }
"""
"""Of the elements within an `svg` of class `net`."""


def draw(picture: Picture) -> str:
    """The picture as an `svg` element; as a file it wants nothing else.

    UsageError where the layout's library is not installed.
    """
    placed = place(picture)
    width, height = placed.width + 2 * _MARGIN, placed.height + 2 * _MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="net" width="{width:.0f}" '
        f'height="{height:.0f}" viewBox="{-_MARGIN:.0f} {-_MARGIN:.0f} {width:.0f} {height:.0f}">',
        f"<title>{text(picture.title)}</title>",
        f"<style>{STYLE}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="#64748b"/></marker></defs>',
        *_boxes(placed),
        *_lines(placed),
        *_names(placed),
        *_texts(placed),
        *(_node(*pair) for pair in zip(picture.nodes, placed.nodes, strict=True)),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def text(words: str) -> str:
    """Words from a spec, fit for XML: escaped, without control characters."""
    return escape(printable(words), {'"': "&quot;", "'": "&#39;"})


def _boxes(placed: Placed) -> Iterator[str]:
    for _, at in placed.boxes:
        yield f'<rect class="box" rx="6" {_rectangle(at)}/>'


def _names(placed: Placed) -> Iterator[str]:
    for (name, at), x in zip(placed.boxes, name_places(placed), strict=True):
        yield f'<text class="name" x="{x:.1f}" y="{at.y + LINE:.1f}">{_short(name)}</text>'


def _lines(placed: Placed) -> Iterator[str]:
    for line in placed.lines:
        (x, y), *bends = line.curve
        through = " ".join(f"{a:.1f} {b:.1f}" for a, b in bends)
        tip = f" L{line.tip[0]:.1f} {line.tip[1]:.1f}" if line.tip else ""
        arrow = " tip" if line.tip else ""
        yield f'<path class="wire{arrow}" d="M{x:.1f} {y:.1f} C{through}{tip}"/>'


def _texts(placed: Placed) -> Iterator[str]:
    for words, at in placed.texts:
        x, y = at.middle
        yield f'<text class="shape" x="{x:.1f}" y="{y + 4:.1f}">{_short(words)}</text>'


def _node(node: Drawn, at: Rectangle) -> str:
    middle, _ = at.middle
    words = "".join(
        f'<text x="{middle:.1f}" y="{at.y + 1 + LINE * (row + 1):.1f}">{_short(line)}</text>'
        for row, line in enumerate(node.lines)
    )
    return (
        f'<g class="node {node.kind}"><title>{text(node.note)}</title>'
        f'<rect rx="4" {_rectangle(at)}/>{words}</g>'
    )


def _rectangle(at: Rectangle) -> str:
    return f'x="{at.x:.1f}" y="{at.y:.1f}" width="{at.width:.1f}" height="{at.height:.1f}"'


def _short(words: str) -> str:
    return text(shortened(words))
