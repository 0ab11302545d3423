"""Tables of a page whose cells are coloured by how much they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from netspec.report.page import words

STYLE = """
.plain th { position: sticky; top: 0; z-index: 1; background: var(--head); padding: 5px 10px; }
.fit { width: fit-content; max-width: 100%; box-sizing: border-box; }
.matrix td, .matrix th { text-align: center; padding: 3px 7px; border: 1px solid var(--line);
  font-variant-numeric: tabular-nums; }
.matrix th { font-weight: 600; background: var(--head); max-width: 110px; overflow: hidden;
  text-overflow: ellipsis; }
.matrix tr > th:first-child { position: sticky; left: 0; z-index: 2; text-align: right; }
.right { background: rgb(var(--good) / var(--p)); }
.wrong { background: rgb(var(--bad) / var(--p)); }
"""

_N = "n"
Cell = tuple[str, str]
"""The text of a cell, and the HTML of its attributes, which is none of a user's."""


def shaded(text: str, share: float, *, good: bool) -> Cell:
    """A cell the stronger in colour the larger a share of 1 is."""
    if share <= 0:
        return text, ""
    kind = "right" if good else "wrong"
    return text, f' class="{kind}" style="--p:{0.08 + 0.52 * min(share, 1):.2f}"'


def barred(text: str, share: float) -> Cell:
    """A number with a bar below it, full for 1."""
    return text, f' class="n bar" style="--part:{100 * min(max(share, 0), 1):.1f}%"'


def grid(
    heads: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    kind: str = "plain",
    numbers: Sequence[int] = (),
) -> str:
    """A table in a frame that scrolls; columns of `numbers` have their heads to the right."""
    titles = "".join(
        f'<th class="{_N * (at in numbers)}">{words(head)}</th>' for at, head in enumerate(heads)
    )
    body = "".join(f"<tr>{_row(row, kind)}</tr>" for row in rows)
    return (
        f'<div class="scroll fit" tabindex="0"><table class="{kind}"><thead><tr>{titles}</tr>'
        f"</thead><tbody>{body}</tbody></table></div>"
    )


def _row(row: Sequence[Cell], kind: str) -> str:
    cells = [f"<td{attributes}>{words(text)}</td>" for text, attributes in row]
    if kind == "matrix":
        cells[0] = cells[0].replace("<td", "<th").replace("</td>", "</th>")
    return "".join(cells)
