"""Tables as Markdown, for pull requests and wikis."""

from __future__ import annotations

import re
from collections.abc import Sequence

from netspec.report.table import Table

_SPECIAL = re.compile(r"[\\`*\[\]<>&|~]")
"""What Markdown or the HTML within it reads as more than itself, and the border of a cell."""


def escaped(text: str) -> str:
    """Text that Markdown shows as it is; a table's cells hold no line ends."""
    return _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", text)


def markdown_table(table: Table) -> str:
    """A table with a line of titles, numbers to the right."""
    titles = table.titles or ("",) * len(table.columns)
    rule = ["---:" if numeric else "---" for _, numeric in table.columns]
    return "\n".join(map(_line, [[*map(escaped, titles)], rule, *_cells(table)])) + "\n"


def _cells(table: Table) -> list[list[str]]:
    return [[*map(escaped, row)] for row in table.rows]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
