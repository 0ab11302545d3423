"""`netspec compile`: the inference network as ONNX."""

from __future__ import annotations

from pathlib import Path

import click

from netspec.cli import options
from netspec.compiler import compile_spec, read
from netspec.diagnostics import DataError
from netspec.files import write_durably
from netspec.report.json import VERSION


@click.command("compile")
@options.SPEC
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write.  [default: SPEC's name with .onnx]",
)
@click.option(
    "--weights",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Weights as safetensors; unless given, the fillers draw them.",
)
@click.option(
    "--batch",
    type=click.IntRange(1, 2**20),
    help="Fix the batch size; unless given, it is symbolic.",
)
@click.option(
    "--output",
    "outputs",
    multiple=True,
    metavar="BLOB",
    help="Put out this blob instead; may be repeated.",
)
@click.option("--seed", type=int, help="Seed of the fillers.  [default: the solver's random_seed]")
@options.SETS
@options.INCLUDES
@options.JSON
def command(
    spec: str,
    out: Path | None,
    weights: Path | None,
    batch: int | None,
    outputs: tuple[str, ...],
    seed: int | None,
    sets: tuple[str, ...],
    include_paths: tuple[Path, ...],
    as_json: bool,
) -> int:
    """Write the inference network of SPEC as ONNX, verified before it is written."""
    source = read(spec, sets=sets, include_paths=include_paths)
    arrays = None
    if weights is not None:
        from netspec.runtime.weights import read_weights

        arrays = read_weights(weights)
    try:
        compiled = compile_spec(source, weights=arrays, batch=batch, outputs=outputs, seed=seed)
    except DataError as error:
        raise DataError(f"{weights}: {error}") from None
    target = out or Path(source.path.stem + ".onnx")
    data = compiled.model.SerializeToString(deterministic=True)
    write_durably(target, [data])
    if as_json:
        options.print_json(
            {
                "version": VERSION,
                "file": str(target),
                "bytes": len(data),
                "outputs": list(compiled.outputs),
                "batch": batch,
                "difference": compiled.difference,
            }
        )
    else:
        click.echo(
            f"{target}: {len(data):,} bytes, output {', '.join(compiled.outputs)}; "
            f"verified on two batches, largest difference {compiled.difference:.1e}"
        )
    return 0
