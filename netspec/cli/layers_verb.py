"""`netspec layers`: the reference of every layer type, generated from the code."""

from __future__ import annotations

import click

from netspec.cli import options
from netspec.diagnostics import UsageError, suggest
from netspec.layers import LAYERS
from netspec.report.json import VERSION
from netspec.report.reference import (
    SECTIONS,
    FieldReference,
    LayerReference,
    reference,
    references,
    section_reference,
)
from netspec.report.table import print_definitions


@click.command("layers")
@click.argument("layer", required=False)
@options.JSON
def command(layer: str | None, as_json: bool) -> int:
    """The reference of every layer type, or of LAYER alone, or of `solver`, `data`, `transform`."""
    if layer is None:
        shown = references(LAYERS)
    elif layer in SECTIONS:
        shown = (section_reference(layer),)
    elif layer in LAYERS:
        shown = (reference(LAYERS[layer]),)
    else:
        known = suggest(layer, [*LAYERS, *SECTIONS])
        raise UsageError(f"there is no layer type `{layer}`{known}")
    if as_json:
        options.print_json({"version": VERSION, "layers": [r.as_data() for r in shown]})
    elif layer is None:
        _list(shown)
    else:
        _page(shown[0])
    return 0


def _list(shown: tuple[LayerReference, ...]) -> None:
    print_definitions([(entry.keyword, entry.summary) for entry in shown])


def _page(entry: LayerReference) -> None:
    caffe = f", Caffe's {entry.caffe}" if entry.caffe else ""
    click.secho(f"{entry.keyword}{caffe}", bold=True)
    click.echo(f"\n{entry.description}\n")
    print_definitions([(field.name, _told(field)) for field in entry.fields])
    click.echo(f"\n{entry.example}")


def _told(field: FieldReference) -> str:
    default = "required" if field.default is None else f"default: {field.default}"
    default = default.removesuffix("default: -") or "optional"
    return f"{' '.join(field.description.split())} Takes {field.takes}.  [{default}]"
