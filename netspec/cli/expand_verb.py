"""`netspec expand`: the flat network as native text."""

from __future__ import annotations

import click

from netspec.cli import options
from netspec.cli.reader import SpecReader, reader_options
from netspec.compiler import elaborate
from netspec.grammar.printer import to_text
from netspec.ir.printer import flatten
from netspec.report.json import net_report


@click.command("expand")
@options.SPEC
@reader_options
@options.JSON
def command(
    spec: str,
    reader: SpecReader,
    as_json: bool,
) -> int:
    """Print SPEC flat: blocks, repeats, groups and names resolved.

    The text builds the same network again. `--json` prints the nets of both phases.
    """
    nets = elaborate(reader.read(spec))
    if as_json:
        options.print_json({"TRAIN": net_report(nets.train.net), "TEST": net_report(nets.test.net)})
    else:
        click.echo(to_text(flatten(nets.test.net, nets.train.net)), nl=False)
    return 0
