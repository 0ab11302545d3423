"""`netspec upgrade`: a Caffe net, and its solver, as native text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from netspec.caffe_files import upgrade
from netspec.cli import options
from netspec.cli.wishes import caffe_options
from netspec.diagnostics import Diagnostics
from netspec.files import write_durably

if TYPE_CHECKING:
    from netspec.caffe.upgrade import Wishes


@click.command("upgrade")
@click.argument("net")
@click.argument("solver", required=False)
@click.option(
    "-o", "--out", type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write.  [default: standard output]",
)  # fmt: skip
@caffe_options
def command(net: str, solver: str | None, out: Path | None, wishes: Wishes | None) -> int:
    """Print the native text of NET, a Caffe net of any age, or a solver and the net it names.

    With SOLVER, NET is the net that it trains, whatever it names.
    """
    diagnostics = Diagnostics()
    text = upgrade(net, solver, wishes=wishes, diagnostics=diagnostics)
    if out is None:
        click.echo(text, nl=False)
    else:
        write_durably(out, [text.encode()])
    options.print_warnings(diagnostics)
    return 0
