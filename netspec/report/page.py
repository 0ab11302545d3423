"""HTML pages that are whole in one file: no network, a few lines of script, every word escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from netspec.diagnostics import printable

_STYLE = """
body { margin: 0; padding: 16px; color: #0f172a; background: #fff;
  font: 14px/1.4 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
h1 { font-size: 20px; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 16px; margin: 24px 0 8px; }
p { margin: 0 0 12px; color: #475569; overflow-wrap: anywhere; }
.scroll { overflow: auto; max-height: 90vh; border: 1px solid #cbd5e1; border-radius: 6px; }
.scroll svg { display: block; margin: 0 auto; }
"""


def words(text: str) -> str:
    """Text of a spec's, fit for HTML: escaped, without control characters."""
    return escape(printable(text))


def page(title: str, parts: Sequence[str], *, style: str = "", script: str = "") -> str:
    """A document of parts that are HTML already; `title` is text."""
    scripts = [f"<script>{script}</script>"] if script else []
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{words(title)}</title>",
            f"<style>{_STYLE}{style}</style></head><body>",
            *parts,
            *scripts,
            "</body></html>\n",
        ]
    )


def heading(title: str, below: str) -> str:
    """The head of a page: what it shows, and a line of facts."""
    return f"<h1>{words(title)}</h1>\n<p>{words(below)}</p>"


def figure(svg: str) -> str:
    """A drawing in a frame of its own, which scrolls where the window is smaller."""
    return f'<div class="scroll" tabindex="0">\n{svg}</div>'
