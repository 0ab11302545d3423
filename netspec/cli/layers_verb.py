"""`netspec layers`: the reference of every layer type, generated from the code."""

from __future__ import annotations

import click
from rich.text import Text

from netspec.cli import options
from netspec.diagnostics import UsageError, suggest
from netspec.layers import LAYERS
from netspec.report.json import VERSION
from netspec.report.reference import LayerReference, reference, references
from netspec.report.table import plain_table, print_wide


@click.command("layers")
@click.argument("layer", required=False)
@options.JSON
def command(layer: str | None, as_json: bool) -> int:
    """The reference of every layer type, or of LAYER alone."""
    if layer is not None and layer not in LAYERS:
        raise UsageError(f"there is no layer type `{layer}`{suggest(layer, LAYERS)}")
    shown = references(LAYERS) if layer is None else (reference(LAYERS[layer]),)
    if as_json:
        options.print_json({"version": VERSION, "layers": [r.as_data() for r in shown]})
    elif layer is None:
        _list(shown)
    else:
        _page(shown[0])
    return 0


def _list(shown: tuple[LayerReference, ...]) -> None:
    table = plain_table(("layer", False), ("Caffe's", False), ("what it computes", False))
    for entry in shown:
        table.add_row(entry.keyword, entry.caffe or "", Text(entry.summary.split(". ")[0]))
    print_wide(options.console(), table)


def _page(entry: LayerReference) -> None:
    console = options.console()
    caffe = f", Caffe's {entry.caffe}" if entry.caffe else ""
    console.print(Text(f"{entry.keyword}{caffe}", style="bold"))
    console.print(Text(f"\n{entry.description}\n"))
    if entry.fields:
        table = plain_table(("field", False), ("takes", False), ("default", False), ("", False))
        for field in entry.fields:
            table.add_row(
                field.name,
                Text(field.takes),
                Text("required" if field.default is None else field.default),
                Text(" ".join(field.description.split())),
            )
        print_wide(console, table)
    console.print(Text(f"\n{entry.example}"))
