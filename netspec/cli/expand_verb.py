"""`netspec expand`: the flat network as native text."""

from __future__ import annotations

from pathlib import Path

import click

from netspec.cli import options
from netspec.compiler import elaborate, read
from netspec.grammar.printer import to_text
from netspec.ir.printer import flatten
from netspec.report.json import net_report


@click.command("expand")
@options.SPEC
@options.SETS
@options.INCLUDES
@options.JSON
def command(
    spec: str, sets: tuple[str, ...], include_paths: tuple[Path, ...], as_json: bool
) -> int:
    """Print SPEC flat: blocks, repeats, groups and names resolved.

    The text builds the same network again. `--json` prints the nets of both phases.
    """
    nets = elaborate(read(spec, sets=sets, include_paths=include_paths))
    if as_json:
        options.print_json({"TRAIN": net_report(nets.train.net), "TEST": net_report(nets.test.net)})
    else:
        click.echo(to_text(flatten(nets.test.net, nets.train.net)), nl=False)
    return 0
