"""The forms in which `netspec check` reports, beside tables and JSON: on stdout, and as files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click

from netspec.diagnostics import Diagnostics, NetspecError, SpecErrors, UsageError
from netspec.files import write_durably
from netspec.ir.analysis import Cost
from netspec.ir.layer import Phase
from netspec.ir.net import Net
from netspec.report.columns import Column
from netspec.report.table import Table, check_table

_FILE = click.Path(dir_okay=False, path_type=Path)


@dataclass(frozen=True, slots=True)
class Formats:
    """Which forms were asked for."""

    markdown: bool
    csv: bool
    html: Path | None
    netron: Path | None
    sarif: Path | None


@dataclass(frozen=True, slots=True)
class Report:
    """What is reported of a net."""

    net: Net
    cost: Cost
    """All its layers."""
    rows: Cost
    """The layers as they are shown: folded, sorted."""
    columns: Sequence[Column]
    totals: Table
    depth: int | None
    """How far blocks are drawn, as in `--depth`."""
    found: Diagnostics

    @property
    def heading(self) -> str:
        return self.net.name

    @property
    def facts(self) -> str:
        return f"phase {self.net.phase}, batch {self.net.batch}"


def format_options(command: Callable[..., int]) -> Callable[..., int]:
    """The options of a verb that reports, gathered as its argument `formats`."""

    @click.option("--md", is_flag=True, help="Print the tables as Markdown.")
    @click.option("--csv", is_flag=True, help="Print the layers as CSV, raw numbers.")
    @click.option("--html", type=_FILE, help="Write a page: totals, sortable table, graph.")
    @click.option(
        "--netron", type=_FILE, help="Write the JSON that Netron shows beside the compiled model."
    )
    @click.option("--sarif", type=_FILE, help="Write errors and lints as SARIF 2.1.0.")
    @wraps(command)
    def gathered(
        md: bool,
        csv: bool,
        html: Path | None,
        netron: Path | None,
        sarif: Path | None,
        **others: Any,
    ) -> int:
        if md + csv + others["as_json"] > 1:
            raise UsageError("--json, --md and --csv each print to stdout: one of them")
        if netron and others["phase"] != Phase.TEST:
            raise UsageError("--netron is for the compiled model, which is that of phase TEST")
        files = [file.resolve() for file in (html, netron, sarif) if file]
        if len(set(files)) < len(files):
            raise UsageError("--html, --netron and --sarif each write a file of their own")
        return command(formats=Formats(md, csv, html, netron, sarif), **others)

    return gathered


def write_files(formats: Formats, report: Report) -> None:
    """Write the files that were asked for: all of them are made before the first is written."""
    made: dict[Path, str] = {}
    if formats.html:
        made[formats.html] = _html(report)
    if formats.netron:
        from netspec.report.netron import netron_attachment

        made[formats.netron] = _json(netron_attachment(report.net, report.cost))
    if formats.sarif:
        made[formats.sarif] = sarif_text(report.found)
    for file, text in made.items():
        write_durably(file, [text.encode()])


def write_faults(formats: Formats, spec: str, error: NetspecError, found: Diagnostics) -> None:
    """The SARIF of a spec that gives no net: its faults, or why it cannot be read at all."""
    if formats.sarif is None:
        return
    if isinstance(error, SpecErrors):
        text = sarif_text(Diagnostics(list(error.faults), found.warnings))
    else:
        text = sarif_text(found, (spec, str(error)))
    write_durably(formats.sarif, [text.encode()])


def print_text(formats: Formats, report: Report) -> bool:
    """Print Markdown or CSV if that was asked for, and say whether it was."""
    if formats.markdown:
        from netspec.report.markdown import escaped, markdown_table

        click.echo(f"**{escaped(report.heading)}**, {report.facts}\n")
        click.echo(markdown_table(check_table(report.rows, report.columns)))
        click.echo(markdown_table(report.totals), nl=False)
    elif formats.csv:
        from netspec.report.csv import csv_text

        click.echo(csv_text(report.rows, report.columns), nl=False)
    return formats.markdown or formats.csv


def sarif_text(found: Diagnostics, failure: tuple[str, str] | None = None) -> str:
    """A SARIF log as text."""
    from netspec.report.sarif import sarif_log

    return _json(sarif_log(found, failure))


def _html(report: Report) -> str:
    from netspec.report.html import html_report
    from netspec.report.picture import picture
    from netspec.report.svg import draw

    svg = draw(picture(report.net, depth=report.depth))
    return html_report(
        report.heading,
        report.facts,
        report.rows,
        report.columns,
        report.totals,
        svg,
        report.found.warnings,
    )


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
