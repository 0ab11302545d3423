"""`netspec expand`: the flat network as native text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from netspec.cli import options
from netspec.cli.wishes import caffe_options, read_spec
from netspec.compiler import elaborate
from netspec.grammar.printer import to_text
from netspec.ir.printer import flatten
from netspec.report.json import net_report

if TYPE_CHECKING:
    from netspec.caffe.upgrade import Wishes


@click.command("expand")
@options.SPEC
@options.SETS
@options.INCLUDES
@caffe_options
@options.JSON
def command(
    spec: str,
    sets: tuple[str, ...],
    include_paths: tuple[Path, ...],
    wishes: Wishes | None,
    as_json: bool,
) -> int:
    """Print SPEC flat: blocks, repeats, groups and names resolved.

    The text builds the same network again. `--json` prints the nets of both phases.
    """
    nets = elaborate(read_spec(spec, sets=sets, include_paths=include_paths, wishes=wishes))
    if as_json:
        options.print_json({"TRAIN": net_report(nets.train.net), "TEST": net_report(nets.test.net)})
    else:
        click.echo(to_text(flatten(nets.test.net, nets.train.net)), nl=False)
    return 0
