"""`netspec show`: the graph of a net as a picture."""

from __future__ import annotations

from pathlib import Path

import click

from netspec.cli import options
from netspec.cli.reader import SpecReader, reader_options
from netspec.compiler import elaborate
from netspec.diagnostics import UsageError, printable
from netspec.files import write_durably
from netspec.ir.layer import Phase
from netspec.report.page import figure, heading, page
from netspec.report.picture import Picture, picture
from netspec.report.svg import draw

_FORMATS = (".svg", ".html")


@click.command("show")
@options.SPEC
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write, .svg or .html.  [default: SPEC's name with .svg]",
)
@click.option("--fold", is_flag=True, help="Draw each outermost block as one node: --depth 1.")
@click.option(
    "--depth",
    type=click.IntRange(1),
    help="Draw layers whose names agree in this many parts as one node.",
)
@options.PHASE
@options.BATCH
@reader_options
def command(
    spec: str,
    out: Path | None,
    fold: bool,
    depth: int | None,
    phase: str,
    batch: int | None,
    reader: SpecReader,
) -> int:
    """Draw the graph of SPEC: layers, blocks as boxes, shapes on the way."""
    if fold and depth is not None:
        raise UsageError("--fold is --depth 1: one of them is enough")
    source = reader.read(spec)
    file = out or Path(source.path.stem + ".svg")
    if file.suffix.lower() not in _FORMATS:
        raise UsageError(f"-o {printable(str(file))}: a picture is .svg or .html")
    net = elaborate(source, batch=batch)[Phase(phase)].net
    drawn = picture(net, depth=1 if fold else depth)
    text = draw(drawn)
    if file.suffix.lower() == ".html":
        facts = f"phase {phase}, {_counted(drawn)}"
        text = page(net.name, [heading(net.name, facts), figure(text)])
    write_durably(file, [text.encode()])
    click.echo(f"{printable(str(file))}: {_counted(drawn)}")
    return 0


def _counted(drawn: Picture) -> str:
    blocks = sum(node.kind == "block" for node in drawn.nodes)
    folded = f", {blocks:,} of them folded blocks" if blocks else ""
    return f"{len(drawn.nodes):,} nodes{folded}"
