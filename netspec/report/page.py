"""HTML pages that are whole in one file: no network, a few lines of script, every word escaped."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from html import escape

from netspec.diagnostics import printable

_STYLE = """
:root { color-scheme: light dark; --text: #0f172a; --muted: #475569; --back: #fff; --head: #f1f5f9;
  --line: #e2e8f0; --edge: #cbd5e1; --bar: #93c5fd; --good: 37 99 235; --bad: 220 38 38;
  --blue: #2563eb; --orange: #ea580c; --green: #16a34a; --purple: #9333ea; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e2e8f0; --muted: #94a3b8; --back: #0f172a; --head: #1e293b; --line: #293548;
    --edge: #334155; --bar: #1d4ed8; --good: 59 130 246; --bad: 239 68 68;
    --blue: #60a5fa; --orange: #fb923c; --green: #4ade80; --purple: #c084fc; }
}
body { margin: 0; padding: 16px; color: var(--text); background: var(--back);
  font: 14px/1.4 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
h1 { font-size: 20px; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 16px; margin: 24px 0 8px; }
p { margin: 0 0 12px; color: var(--muted); overflow-wrap: anywhere; }
.scroll { overflow: auto; max-height: 90vh; border: 1px solid var(--edge); border-radius: 6px; }
.scroll svg { display: block; margin: 0 auto; }
"""


_RULES = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'"
)
"""What a page may do, for the case that an escape was forgotten: fetch nothing, run nothing."""


def words(text: str) -> str:
    """Text of a spec's, fit for HTML: escaped, without control characters."""
    return escape(printable(text))


def page(title: str, parts: Sequence[str], *, style: str = "", script: str = "") -> str:
    """A document of parts that are HTML already; `title` is text."""
    scripts = [f"<script>{script}</script>"] if script else []
    rules = f"{_RULES}; script-src 'sha256-{_hash(script)}'" if script else _RULES
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{rules}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{words(title)}</title>",
            f"<style>{_STYLE}{style}</style></head><body>",
            *parts,
            *scripts,
            "</body></html>\n",
        ]
    )


def _hash(script: str) -> str:
    return b64encode(sha256(script.encode()).digest()).decode()


def heading(title: str, below: str) -> str:
    """The head of a page: what it shows, and a line of facts."""
    return f"<h1>{words(title)}</h1>\n<p>{words(below)}</p>"


def figure(svg: str) -> str:
    """A drawing in a frame of its own, which scrolls where the window is smaller."""
    return f'<div class="scroll" tabindex="0">\n{svg}</div>'
