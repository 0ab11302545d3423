"""`netspec train`: a spec and its data become a run folder with a trained network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import click

from netspec.cli import options
from netspec.cli.reader import SpecReader, reader_options
from netspec.cli.weights import IGNORE_MISMATCH, WEIGHTS
from netspec.diagnostics import UsageError, printable
from netspec.ir.duration import seconds

if TYPE_CHECKING:
    from netspec.compiler import Spec

_PRECISIONS: dict[str | None, Literal["FP32", "FP16"]] = {"fp32": "FP32", "fp16": "FP16"}
"""The solver's words for the option's."""
_GRAPHS: dict[str, bool | Literal["auto"]] = {"auto": "auto", "on": True, "off": False}
"""The library's words for the option's."""


@click.command("train")
@options.SPEC
@click.option("--resume", is_flag=True, help="Go on with the last run of this spec.")
@click.option(
    "--force", is_flag=True, show_default="off",
    help="Go on though the spec or the data have changed since, with the weights that fit.",
)  # fmt: skip
@click.option(
    "--epochs", metavar="N",
    help="Passes over the training data; +N with --resume: so many beyond what it was to have.",
)  # fmt: skip
@click.option(
    "--max-time", metavar="TIME", help="End after a time such as 90m, tested and written."
)
@click.option(
    "--batch", metavar="N", help="Samples of a training batch; `auto`: as many as memory holds."
)
@click.option(
    "--precision", type=click.Choice(["fp32", "fp16"]),
    help="What convolutions and fully connected layers multiply.  [default: the solver's]",
)  # fmt: skip
@click.option(
    "--restarts", type=click.IntRange(2, 1000), metavar="N",
    help="Train with N seeds, and say which was the best.",
)  # fmt: skip
@WEIGHTS
@IGNORE_MISMATCH
@click.option(
    "--snapshot", type=click.Path(path_type=Path), metavar="PATH",
    help="Go on in a run folder; or, in a new one, from a .solverstate of Caffe's and its weights.",
)  # fmt: skip
@click.option(
    "--runs", type=click.Path(file_okay=False, path_type=Path), default=Path("runs"),
    show_default=True, help="Where run folders go.",
)  # fmt: skip
@click.option(
    "--folds", type=click.IntRange(2, 1000), metavar="K",
    help="Cross-validate: K runs, each tested on the fold that it leaves out.",
)  # fmt: skip
@click.option(
    "--autotune", is_flag=True, show_default="off",
    help="Measure first which formulations are the fastest here, in 30 seconds at most.",
)  # fmt: skip
@click.option(
    "--skip-bad", type=click.IntRange(0, 2**31), metavar="N", show_default="0",
    help="Pass over at most N images that cannot be read, each named and replaced by the next.",
)  # fmt: skip
@options.TARGET
@options.THREADS
@options.RECOMPUTE
@click.option(
    "--no-tf32", is_flag=True, show_default="off",
    help="Keep CUDA from rounding the factors of products to 10 bits of mantissa.",
)  # fmt: skip
@click.option(
    "--cuda-graph", type=click.Choice(["auto", "on", "off"]), default="auto", show_default=True,
    help="Let CUDA record each graph once and replay it; `auto`: if that gives what plain runs do.",
)  # fmt: skip
@reader_options
@options.DATA
@options.DEVICE
@options.JSON
def command(
    spec: str,
    resume: bool,
    force: bool,
    epochs: str | None,
    max_time: str | None,
    batch: str | None,
    precision: Literal["fp32", "fp16"] | None,
    restarts: int | None,
    weights: str | None,
    ignore_mismatch: bool,
    snapshot: Path | None,
    runs: Path,
    folds: int | None,
    autotune: bool,
    skip_bad: int | None,
    target: str | None,
    threads: int | None,
    recompute: str | None,
    no_tf32: bool,
    cuda_graph: Literal["auto", "on", "off"],
    reader: SpecReader,
    data: Path | None,
    device: str,
    as_json: bool,
) -> int:
    """Train SPEC on its data, test every epoch, keep everything in a run folder.

    Where the spec holds samples out (`val: 0.1`), or the source has a folder `val` beside `test`,
    the tests look at these. SIGINT, SIGTERM and SIGUSR1 finish the step, save, and exit 75:
    `--resume` goes on from there.
    """
    if not folds and sum(map(bool, (resume, weights, snapshot))) > 1:
        raise UsageError("--resume, --snapshot and --weights each say how the training begins")
    folder = snapshot if snapshot is not None and snapshot.is_dir() else None
    if folds and (snapshot or restarts):
        other = "--snapshot" if snapshot else "--restarts"
        raise UsageError(f"--folds begins runs of its own, which do not go with {other}")
    if force and not (resume or folder):
        raise UsageError("--force goes with --resume")
    if restarts and snapshot:
        raise UsageError("--restarts begins several runs, and --snapshot goes on with one")
    if restarts and batch == "auto":
        raise UsageError("--restarts compares runs of one batch size: give --batch a number")
    amount, samples = _seconds(max_time), _batch(batch)
    source = reader.read(spec, data=data)
    from netspec.cli.progress import JsonLines, Progress
    from netspec.data.split import Fold
    from netspec.training.launch import train
    from netspec.training.outcome import Outcome

    listener = JsonLines() if as_json else Progress()

    def one(spec: Spec, again: bool | Path, fold: Fold | None = None) -> Outcome:
        return train(
            spec, runs=runs, resume=again, data=data, device=device, target=target,
            threads=threads, recompute=options.names(recompute, "--recompute"),
            tf32=not no_tf32, cuda_graphs=_GRAPHS[cuda_graph], autotune=autotune,
            weights=options.names(weights, "--weights"),
            ignore_mismatch=ignore_mismatch, solverstate=None if folder else snapshot,
            epochs=epochs, max_time=amount, batch=samples, precision=_PRECISIONS.get(precision),
            force=force, fold=fold, restarts=restarts or 0, skip_bad=skip_bad, listener=listener,
        )  # fmt: skip

    with listener:
        if restarts:
            from netspec.cli.restarts import tell_restarts, train_restarts

            tell_restarts(train_restarts(source, restarts, one, runs, resume, listener), as_json)
        elif folds:
            from netspec.cli.folds import tell
            from netspec.training.trials.folds import cross_validate

            scores = cross_validate(source, folds, runs, one, resume=resume, warn=listener.warned)
            tell(scores, as_json=as_json)
        else:
            one(source, folder or resume)
    return 0


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else seconds(text)
    except ValueError as fault:
        raise UsageError(f"--max-time {fault}") from None


def _batch(text: str | None) -> int | Literal["auto"] | None:
    if text is None or text == "auto":
        return cast("Literal['auto'] | None", text)
    if not re.fullmatch("[1-9][0-9]{0,6}", text):
        raise UsageError(f"--batch takes a number of samples, or auto, not `{printable(text)}`")
    return int(text)
