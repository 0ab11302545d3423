"""The report of `netspec check` as one HTML page: totals, a sortable table with bars, the graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from netspec.diagnostics import SpecError
from netspec.ir.analysis import Cost, LayerCost
from netspec.report.columns import Cell, Column
from netspec.report.page import figure, heading, page, words
from netspec.report.table import Table

_PLAIN = ("line", "group")
"""Numbers that are no amounts."""

STYLE = """
table { border-collapse: collapse; font-size: 13px; }
th, td { padding: 3px 10px; text-align: left; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
.n { text-align: right; font-variant-numeric: tabular-nums; }
.sortable th { position: sticky; top: 0; z-index: 1; background: var(--head); padding: 0; }
.sortable th button { font: inherit; font-weight: 600; color: inherit; border: 0;
  background: none; cursor: pointer; width: 100%; padding: 5px 10px;
  text-align: inherit; white-space: nowrap; }
th[aria-sort=ascending] button::after { content: " \\25B2"; }
th[aria-sort=descending] button::after { content: " \\25BC"; }
.bar { background: linear-gradient(var(--bar), var(--bar)) no-repeat right bottom -3px /
  var(--part) 3px; background-origin: content-box; }
.layers { width: fit-content; max-width: 100%; box-sizing: border-box; }
@media (max-width: 600px) {
  .layers td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 130px; }
}
.facts td:first-child { white-space: pre; }
.facts td:last-child { white-space: normal; }
li { margin: 0 0 6px; overflow-wrap: anywhere; }
"""
"""Of the tables of a page."""

_SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, at) => head.firstChild.addEventListener("click", () => {
    const numeric = head.classList.contains("n");
    const before = head.getAttribute("aria-sort");
    const first = numeric ? "descending" : "ascending";
    const other = numeric ? "ascending" : "descending";
    const order = before === first ? other : first, sign = order === "ascending" ? 1 : -1;
    const value = (row) => row.cells[at].dataset.v;
    const rows = [...body.rows].sort((a, b) => {
      const x = value(a), y = value(b);
      if (!x || !y) return (x ? 0 : 1) - (y ? 0 : 1);
      return sign * (numeric ? x - y : x.localeCompare(y, undefined, {numeric: true}));
    });
    heads.forEach((one) => one.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    body.append(...rows);
  }));
}
"""


def html_report(
    title: str,
    below: str,
    rows: Cost,
    columns: Sequence[Column],
    totals: Table,
    svg: str,
    lints: Sequence[SpecError] = (),
) -> str:
    """The page; `svg` is a drawing that is HTML already, everything else is text."""
    parts = [
        heading(title, below),
        facts_table(totals),
        *_warnings(lints),
        "<h2>Layers</h2>",
        layers_table(rows, columns, sortable=True),
        "<h2>Graph</h2>",
        figure(svg),
    ]
    return page(title, parts, style=STYLE, script=_SCRIPT)


def facts_table(table: Table) -> str:
    """A table of facts, without titles."""
    return f'<table class="facts">{"".join(_totals(table))}</table>'


def layers_table(rows: Cost, columns: Sequence[Column], *, sortable: bool = False) -> str:
    """What each layer of a net costs, by columns; to be sorted, it wants the script."""
    head = _head(columns, buttons=sortable)
    kind = "sortable" if sortable else "plain"
    return (
        f'<div class="scroll layers" tabindex="0"><table class="{kind}">{head}'
        f"<tbody>{''.join(_rows(rows, columns))}</tbody></table></div>"
    )


def _totals(table: Table) -> Iterator[str]:
    numeric = [number for _, number in table.columns]
    for row in table.rows:
        cells = (
            f"<td{_class(number)}>{words(cell)}</td>"
            for cell, number in zip(row, numeric, strict=True)
        )
        yield f"<tr>{''.join(cells)}</tr>"


def _warnings(lints: Sequence[SpecError]) -> list[str]:
    if not lints:
        return []
    items = (f"<li>{words(f'{x.span.where}: [{x.code}] {x.message}')}</li>" for x in lints)
    return ["<h2>Warnings</h2>", f"<ul>{''.join(items)}</ul>"]


def _head(columns: Sequence[Column], *, buttons: bool) -> str:
    said = "<button>{}</button>" if buttons else "{}"
    heads = (
        f'<th{_class(c.numeric)} title="{words(c.about)}">{said.format(words(c.title))}</th>'
        for c in columns
    )
    return f"<thead><tr>{''.join(heads)}</tr></thead>"


def _rows(rows: Cost, columns: Sequence[Column]) -> Iterator[str]:
    largest = {c.key: max((_amount(c, x, rows) for x in rows.layers), default=0) for c in columns}
    for layer in rows.layers:
        yield f"<tr>{''.join(_cell(c, layer, rows, largest) for c in columns)}</tr>"


def _cell(column: Column, layer: LayerCost, rows: Cost, largest: Mapping[str, float]) -> str:
    """Text, the value that it is sorted by, and a bar for an amount: full for the largest."""
    amount = _amount(column, layer, rows)
    part = f' style="--part:{100 * amount / largest[column.key]:.1f}%"' if amount else ""
    kind = " ".join(["n"] * column.numeric + ["bar"] * bool(amount))
    sorted_by = words(_sorted_by(column.value(layer, rows)))
    shown = words(column.shown(layer, rows))
    return f'<td class="{kind}"{part} data-v="{sorted_by}">{shown}</td>'


def _amount(column: Column, layer: LayerCost, rows: Cost) -> float:
    value = column.value(layer, rows)
    counts = column.numeric and column.key not in _PLAIN and isinstance(value, int | float)
    return value if counts and isinstance(value, int | float) else 0


def _sorted_by(value: Cell) -> str:
    """A number of a list is its first one; nothing is nothing."""
    while isinstance(value, list):
        value = value[0] if value else None
    return "" if value is None else str(value)


def _class(numeric: bool) -> str:
    return ' class="n"' if numeric else ""
