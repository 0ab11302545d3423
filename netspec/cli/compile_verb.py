"""`netspec compile`: the inference network as ONNX."""

from __future__ import annotations

from pathlib import Path

import click

from netspec.cli import options
from netspec.compiler import Spec, compile_spec, compile_step, read
from netspec.diagnostics import DataError, UsageError
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
@click.option(
    "--training",
    is_flag=True,
    help="Write the training step instead: data, weights in; losses, gradients out.",
)
@click.option(
    "--target",
    metavar="NAME",
    help="What --training is compiled for: cpu, cpu-plain or cuda.  [default: cpu]",
)
@options.RECOMPUTE
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
    training: bool,
    target: str | None,
    recompute: str | None,
    sets: tuple[str, ...],
    include_paths: tuple[Path, ...],
    as_json: bool,
) -> int:
    """Write the inference network of SPEC as ONNX, verified before it is written."""
    source = read(spec, sets=sets, include_paths=include_paths)
    if training:
        given = {"--weights": weights, "--output": outputs or None, "--seed": seed}
        for option in (option for option, value in given.items() if value is not None):
            raise UsageError(f"{option} does not go with --training")
        again = options.names(recompute, "--recompute")
        return _write_step(source, out, target, batch, again, as_json=as_json)
    for option, value in (("--target", target), ("--recompute", recompute)):
        if value is not None:
            raise UsageError(f"{option} goes with --training")
    arrays = None
    if weights is not None:
        from netspec.runtime.weights import read_weights

        arrays = read_weights(weights)
    try:
        compiled = compile_spec(source, weights=arrays, batch=batch, outputs=outputs, seed=seed)
    except DataError as error:
        raise DataError(f"{weights}: {error}") from None
    file = out or Path(source.path.stem + ".onnx")
    data = compiled.model.SerializeToString(deterministic=True)
    write_durably(file, [data])
    if as_json:
        options.print_json(
            {
                "version": VERSION,
                "file": str(file),
                "bytes": len(data),
                "outputs": list(compiled.outputs),
                "batch": batch,
                "difference": compiled.difference,
            }
        )
    else:
        click.echo(
            f"{file}: {len(data):,} bytes, output {', '.join(compiled.outputs)}; "
            f"verified on two batches, largest difference {compiled.difference:.1e}"
        )
    return 0


def _write_step(
    source: Spec,
    out: Path | None,
    requested: str | None,
    batch: int | None,
    recompute: tuple[str, ...],
    *,
    as_json: bool,
) -> int:
    """The training step as a target runs it, and what it needs."""
    from netspec.codegen.emit import emit
    from netspec.codegen.memory import peak
    from netspec.training.targets import find_target

    found = find_target("cpu" if requested is None else requested)
    step = compile_step(source, found.target, batch=batch, recompute=recompute)
    file = out or Path(source.path.stem + ".step.onnx")
    data = emit(step.graph, names=step.names).SerializeToString(deterministic=True)
    write_durably(file, [data])
    need = peak(step.graph).allocated
    if as_json:
        options.print_json(
            {
                "version": VERSION,
                "file": str(file),
                "bytes": len(data),
                "target": str(found.target),
                "note": found.note,
                "batch": step.indices.type.batch,
                "operators": len(step.graph.ops),
                "activations_peak": need,
            }
        )
        return 0
    if found.note:
        click.echo(found.note, err=True)
    click.echo(
        f"{file}: {len(data):,} bytes, {len(step.graph.ops):,} operators for {found.target}, "
        f"batch {step.indices.type.batch}; activations take {need:,} bytes at the peak"
    )
    return 0
