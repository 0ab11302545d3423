"""`netspec compile`: the inference network as ONNX."""

from __future__ import annotations

from pathlib import Path

import click

from netspec.cli import options
from netspec.cli.reader import SpecReader, reader_options
from netspec.cli.weights import IGNORE_MISMATCH, WEIGHTS, load
from netspec.compiler import Spec, compile_spec, compile_step, drawn_weights, elaborate
from netspec.diagnostics import UsageError
from netspec.files import write_durably
from netspec.ir.deploy import deploy
from netspec.report.json import VERSION


@click.command("compile")
@options.SPEC
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write.  [default: SPEC's name with .onnx]",
)
@WEIGHTS
@IGNORE_MISMATCH
@click.option(
    "--caffemodel",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the weights as a .caffemodel, too, or as a .caffemodel.h5.",
)
@click.option(
    "--embed-preprocessing",
    is_flag=True,
    help="Let the model take images as they are stored: crop, mean and scale are part of it.",
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
@reader_options
@options.JSON
def command(
    spec: str,
    out: Path | None,
    weights: str | None,
    ignore_mismatch: bool,
    caffemodel: Path | None,
    embed_preprocessing: bool,
    batch: int | None,
    outputs: tuple[str, ...],
    seed: int | None,
    training: bool,
    target: str | None,
    recompute: str | None,
    reader: SpecReader,
    as_json: bool,
) -> int:
    """Write the inference network of SPEC as ONNX, verified before it is written."""
    source = reader.read(spec)
    if training:
        given = {"--weights": weights, "--output": outputs or None, "--seed": seed,
                 "--caffemodel": caffemodel}  # fmt: skip
        for option in (option for option, value in given.items() if value is not None):
            raise UsageError(f"{option} does not go with --training")
        again = options.names(recompute, "--recompute")
        return _write_step(source, out, target, batch, again, as_json=as_json)
    for option, value in (("--target", target), ("--recompute", recompute)):
        if value is not None:
            raise UsageError(f"{option} goes with --training")
    net = elaborate(source).test.net
    if caffemodel is None:  # what is left out of the model needs no weights
        net, _ = deploy(net, outputs)
    if weights is None:
        arrays = drawn_weights(net, seed)
    else:
        arrays = load(weights, net, ignore_mismatch=ignore_mismatch, seed=seed)
    from netspec.training.setup.measured import Measured

    kept = Measured.read(source.path.parent)  # of a run, whose folder holds its spec
    compiled = compile_spec(
        source, weights=arrays, batch=batch, outputs=outputs, seed=seed,
        embed_preprocessing=embed_preprocessing, measured=kept.arrays if kept else None,
    )  # fmt: skip
    if caffemodel is not None:
        from netspec.caffe.weights import save_caffemodel

        hdf5 = caffemodel.suffix == ".h5"
        write_durably(caffemodel, save_caffemodel(net, arrays, hdf5=hdf5))
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
    from netspec.training.execution.targets import find_target

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
