"""`netspec train`: a spec and its data become a run folder with a trained network."""

from __future__ import annotations

from pathlib import Path

import click

from netspec.cli import options
from netspec.compiler import read


@click.command("train")
@options.SPEC
@click.option("--resume", is_flag=True, help="Go on with the last run of this spec.")
@click.option(
    "--runs", type=click.Path(file_okay=False, path_type=Path), default=Path("runs"),
    show_default=True, help="Where run folders go.",
)  # fmt: skip
@click.option(
    "--autotune", is_flag=True, show_default="off",
    help="Measure first which formulations are the fastest here, in 30 seconds at most.",
)  # fmt: skip
@options.TARGET
@options.THREADS
@options.RECOMPUTE
@click.option(
    "--no-tf32", is_flag=True, show_default="off",
    help="Keep CUDA from rounding the factors of products to 10 bits of mantissa.",
)  # fmt: skip
@click.option(
    "--cuda-graphs", is_flag=True, show_default="off",
    help="Let CUDA record each graph once and replay it.",
)  # fmt: skip
@options.SETS
@options.INCLUDES
@options.DATA
@options.DEVICE
@options.JSON
def command(
    spec: str,
    resume: bool,
    runs: Path,
    autotune: bool,
    target: str | None,
    threads: int | None,
    recompute: str | None,
    no_tf32: bool,
    cuda_graphs: bool,
    sets: tuple[str, ...],
    include_paths: tuple[Path, ...],
    data: Path | None,
    device: str,
    as_json: bool,
) -> int:
    """Train SPEC on its data, test every epoch, keep everything in a run folder.

    SIGINT and SIGTERM finish the step, save, and exit 75: `--resume` goes on from there.
    """
    source = read(spec, sets=sets, include_paths=include_paths)
    from netspec.cli.progress import JsonLines, Progress
    from netspec.training.launch import train

    listener = JsonLines() if as_json else Progress()
    with listener:
        train(
            source, runs=runs, resume=resume, data=data, device=device, target=target,
            threads=threads, recompute=options.names(recompute, "--recompute"),
            tf32=not no_tf32, cuda_graphs=cuda_graphs, autotune=autotune, listener=listener,
        )  # fmt: skip
    return 0
