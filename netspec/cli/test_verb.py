"""`netspec test`: accuracy and loss on the test data, of a run or of a spec with weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from netspec.cli import options
from netspec.cli.progress import number, results
from netspec.cli.weights import IGNORE_MISMATCH, WEIGHTS, load
from netspec.cli.wishes import caffe_options, read_spec
from netspec.diagnostics import UsageError
from netspec.report.json import VERSION

if TYPE_CHECKING:
    from netspec.caffe.upgrade import Wishes
    from netspec.compiler import Spec
    from netspec.training.evaluator import Evaluation


@click.command("test")
@click.argument("run")
@WEIGHTS
@IGNORE_MISMATCH
@click.option(
    "--iterations",
    type=click.IntRange(1, 2**31),
    help="Batches of the test data, over again if it has fewer.  [default: each sample once]",
)
@click.option(
    "--split", type=click.Choice(["test", "val"]), default="test", show_default=True,
    help="The test data, or the samples that the tests of the run's training looked at.",
)  # fmt: skip
@options.DATA
@options.DEVICE
@options.SETS
@options.INCLUDES
@caffe_options
@options.JSON
def command(
    run: str,
    weights: str | None,
    ignore_mismatch: bool,
    iterations: int | None,
    split: str,
    data: Path | None,
    device: str,
    sets: tuple[str, ...],
    include_paths: tuple[Path, ...],
    wishes: Wishes | None,
    as_json: bool,
) -> int:
    """Accuracy and loss of RUN on its test data; each loss where it has several.

    RUN is a run folder, or a spec or Caffe net with `--weights`.
    """
    from netspec.training.metrics import values

    if weights is None:
        if sets or include_paths or wishes or ignore_mismatch:
            raise UsageError("a run folder has all that it needs: the other options go with a spec")
        found = _run(Path(run), data, device, iterations, split)
    elif split != "test":
        raise UsageError("--split val is of a run: what samples its training held out")
    else:
        spec = read_spec(run, sets=sets, include_paths=include_paths, wishes=wishes, data=data)
        found = _spec(spec, weights, data, device, iterations, ignore_mismatch=ignore_mismatch)
    if as_json:
        report = {"version": VERSION, "run": run, "samples": found.samples}
        scores = results({"loss": found.loss, **found.metrics})
        options.print_json({**report, **scores, "losses": found.losses})
    else:
        scores = results(values(found))
        shown = "  ".join(f"{name} {number(name, value)}" for name, value in scores.items())
        click.echo(f"{run}: {shown}  ({found.samples:,} samples)")
    return 0


def _run(
    path: Path, data: Path | None, device: str, iterations: int | None, split: str
) -> Evaluation:
    from netspec.training.experiment import evaluate_run
    from netspec.training.run import Run

    if path.is_file():
        raise UsageError(f"{path}: is no run folder; a spec takes --weights")
    return evaluate_run(Run.open(path), data=data, device=device, batches=iterations, split=split)


def _spec(
    spec: Spec,
    weights: str,
    data: Path | None,
    device: str,
    iterations: int | None,
    *,
    ignore_mismatch: bool,
) -> Evaluation:
    from netspec.compiler import elaborate
    from netspec.training.experiment import evaluate_spec

    net = elaborate(spec).test.net
    arrays = load(weights, net, ignore_mismatch=ignore_mismatch)
    return evaluate_spec(spec, arrays, data=data, device=device, batches=iterations)
