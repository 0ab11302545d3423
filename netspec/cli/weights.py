"""The options that name files of weights, and what is told of how they fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netspec.cli import options
from netspec.diagnostics import printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from netspec.caffe.match import Match
    from netspec.ir.net import Net

WEIGHTS = click.option(
    "--weights",
    metavar="FILES",
    help="Weights: a run, safetensors, .npz or .onnx by tensor name, .caffemodel or "
    ".caffemodel.h5 by layer name; several with commas between them, the later over the earlier.",
)
IGNORE_MISMATCH = click.option(
    "--ignore-mismatch", is_flag=True, help="Pass over weights of another shape."
)


def load(
    given: str, net: Net, *, ignore_mismatch: bool, seed: int | None = None
) -> Mapping[str, NDArray[Any]]:
    """All weights of a net: those of the files that an option names, and the rest as it is drawn.

    What did not match is told on stderr.
    """
    from netspec.compiler import drawn_weights
    from netspec.weights import load_weights

    paths = [Path(name) for name in options.names(given, "--weights")]
    match = load_weights(paths, net, ignore_mismatch=ignore_mismatch)
    tell(match, given)
    wanted = {p.name for p in net.parameters} | net.statistics.keys()
    if wanted <= match.arrays.keys():  # what nobody reads is not drawn, which takes seconds
        return match.arrays
    return {**drawn_weights(net, seed), **match.arrays}


def tell(match: Match, given: str) -> None:
    """How many tensors matched, and a table of what did not."""
    from netspec.caffe.match import COLUMNS, Verdict
    from netspec.report.table import Table

    rest = [row for row in match.table if row.verdict is not Verdict.MATCHED]
    ours = [row for row in match.table if row.verdict is not Verdict.IGNORED]
    matched = sum(row.verdict is Verdict.MATCHED for row in ours)
    click.echo(f"{printable(given)}: {matched} of {len(ours)} tensors matched", err=True)
    if rest:
        table = Table([(title, False) for title in COLUMNS])
        for row in rest:
            table.add(*row.cells())
        for line in table.lines():
            click.echo(line, err=True)
