"""`netspec overfit`: whether a net can learn one batch by heart."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from netspec.cli import options
from netspec.cli.progress import Steps, number, results
from netspec.cli.reader import SpecReader, reader_options
from netspec.report.json import VERSION
from netspec.wording import counted

if TYPE_CHECKING:
    from netspec.training.trials.overfit import Overfit


@click.command("overfit")
@options.SPEC
@click.option(
    "--samples", type=click.IntRange(1, 2**20), metavar="N",
    help="How many samples to learn.  [default: the batch_size]",
)  # fmt: skip
@click.option(
    "--iterations", type=click.IntRange(1, 10**7), default=500, show_default=True, metavar="N",
    help="After how many it has failed.",
)  # fmt: skip
@click.option(
    "--below", type=click.FloatRange(0, min_open=True), metavar="LOSS",
    help="The loss at which they are learned.  [default: a hundredth of the first]",
)  # fmt: skip
@options.DATA
@options.DEVICE
@options.TARGET
@options.THREADS
@reader_options
@options.JSON
def command(
    spec: str,
    samples: int | None,
    iterations: int,
    below: float | None,
    data: Path | None,
    device: str,
    target: str | None,
    threads: int | None,
    reader: SpecReader,
    as_json: bool,
) -> int:
    """Let SPEC learn one batch by heart; exit code 1 if it cannot, for then something is broken.

    The same samples with the same crops and dropout masks again and again, at base_lr, without
    weight decay. It leaves no run behind.
    """
    source = reader.read(spec, data=data)
    from netspec.training.setup.experiment import prepare
    from netspec.training.trials.overfit import overfit

    machine = options.machine(device, target, threads)
    with Steps("overfit", iterations, quiet=as_json) as steps:
        found = overfit(
            prepare(source, data=data), machine, iterations=iterations, samples=samples,
            below=below, told=steps.told,
        )  # fmt: skip
    if as_json:
        options.print_json({"version": VERSION, "learned": found.learned, **asdict(found)})
    else:
        click.echo(_said(found))
    return 0 if found.learned else 1


def _said(found: Overfit) -> str:
    scores = "".join(f", {n} {number(n, v)}" for n, v in results(found.metrics).items())
    way = f"loss {found.first:.4g} → {found.last:.4g}{scores}"
    samples = counted(found.samples, "sample")
    if found.learned:
        return f"{samples} learned by heart in {counted(found.iterations, 'iteration')}: {way}"
    if found.last != found.last:
        at = f"the loss is not finite after {counted(found.iterations, 'iteration')}"
        return f"{samples} not learned: {at}; a lower base_lr may help"
    return (
        f"{samples} not learned in {counted(found.iterations, 'iteration')}: {way}, and not below "
        f"{found.below:.4g}; look at labels, loss, base_lr and filler, see `netspec lr-range`"
    )
