"""`netspec time`: how long every layer takes, beside what the machine could do."""

from __future__ import annotations

from typing import Any

import click

from netspec.cli import options
from netspec.cli.reader import SpecReader, reader_options
from netspec.compiler import elaborate
from netspec.diagnostics import printable
from netspec.ir.layer import Phase
from netspec.ir.net import Net
from netspec.report.json import VERSION
from netspec.report.table import Table, print_table
from netspec.runtime.roofline import Roofline, measure_roofline
from netspec.training.execution.machine import Machine
from netspec.training.trials.timing import LayerTime, Share, Timing, time_net


@click.command("time")
@options.SPEC
@click.option(
    "--phase", type=click.Choice(["TEST", "TRAIN"]), default="TRAIN", show_default=True,
    help="TRAIN: forward, backward and update; TEST: forward.",
)  # fmt: skip
@click.option(
    "--iterations", type=click.IntRange(1, 10**6), default=50, show_default=True,
    help="Runs, whose mean is shown.",
)  # fmt: skip
@options.BATCH
@options.DEVICE
@options.TARGET
@options.THREADS
@reader_options
@options.JSON
def command(
    spec: str,
    phase: str,
    iterations: int,
    batch: int | None,
    device: str,
    target: str | None,
    threads: int | None,
    reader: SpecReader,
    as_json: bool,
) -> int:
    """How long SPEC takes on random data, layer by layer, and how near that is to the machine's."""
    nets = elaborate(reader.read(spec), batch=batch)
    net = nets[Phase(phase)].net
    machine = options.machine(device, target, threads)
    roofline = measure_roofline(machine.device)
    timing = time_net(net, machine, roofline, iterations=iterations)
    if as_json:
        options.print_json(_report(net, machine, roofline, timing, iterations))
        return 0
    if timing.layers:
        print_table(_layers(timing))
    else:
        click.echo("layers are not told apart: on CUDA the profiler sees launches alone")
    facts = f"phase {phase}, batch {net.batch}, {machine.target}, means of {iterations} runs"
    click.secho(f"\n{printable(net.name)}, {facts}", bold=True)
    print_table(_totals(machine, roofline, timing))
    return 0


def _layers(timing: Timing) -> Table:
    """`caffe time`'s rows: a layer's forward and backward, and what they come to."""
    titles = ["forward ms", "GFLOP/s", "roofline"]
    both = titles if timing.backward is None else [*titles, "backward ms", "GFLOP/s", "roofline"]
    table = Table([("layer", False), ("type", False), *((title, True) for title in both)])
    for row in timing.layers:
        back = [] if timing.backward is None else _cells(row.backward)
        table.add(row.name, row.type, *_cells(row.forward), *back)
    return table


def _cells(share: Share) -> list[str]:
    """Milliseconds, GFLOP/s and the share of the roofline; empty where there is none."""
    return [
        "" if share.seconds is None else f"{1e3 * share.seconds:.3f}",
        "" if share.rate is None else f"{share.rate / 1e9:.1f}",
        "" if share.roofline is None else f"{share.roofline:.0%}",
    ]


def _totals(machine: Machine, roofline: Roofline, timing: Timing) -> Table:
    table = Table([("", False), ("ms", True), ("GFLOP/s", True), ("roofline", True), ("", False)])
    table.add("forward", *_cells(timing.forward), "without the profiler")
    if timing.backward is not None and timing.update is not None and timing.step is not None:
        table.add("backward", *_cells(timing.backward), "the step's graph without its forward")
        table.add("update", f"{1e3 * timing.update:.3f}", "", "", "")
        table.add("iteration", f"{1e3 * timing.step:.3f}", "", "", _as_training(timing, machine))
    if timing.overhead is not None:
        note = f"{timing.overhead:+.1%} by the profiler, whose times the layers have"
        table.add("profiled run", f"{1e3 * (timing.profiled or 0):.3f}", "", "", note)
    note = f"a product of matrices; {roofline.bandwidth / 1e9:.1f} GB/s by a sum of vectors"
    table.add("machine", "", f"{roofline.flops / 1e9:.1f}", "", f"{note}{_threads(machine)}")
    return table


def _as_training(timing: Timing, machine: Machine) -> str:
    said = "measured as training does it"
    if timing.shards == 1:
        return said
    at_once = " at the same time" if machine.device.usable_threads > 1 else ""
    return f"{said}, in {timing.shards} shards{at_once}"


def _threads(machine: Machine) -> str:
    return "" if machine.device.cuda else f", {machine.device.usable_threads} threads"


def _report(
    net: Net, machine: Machine, roofline: Roofline, timing: Timing, iterations: int
) -> dict[str, Any]:
    """Seconds, FLOP/s and bytes/s; null where there is nothing."""
    back = timing.backward
    return {
        "version": VERSION,
        "name": net.name,
        "phase": net.phase,
        "batch": net.batch,
        "iterations": iterations,
        "device": str(machine.device),
        "target": str(machine.target),
        "threads": None if machine.device.cuda else machine.device.usable_threads,
        "machine": {"flops": roofline.flops, "bandwidth": roofline.bandwidth},
        "layers": [_layer(row) for row in timing.layers],
        "totals": {
            "forward": _share(timing.forward),
            "backward": None if back is None else _share(back),
            "update": timing.update,
            "step": timing.step,
            "shards": timing.shards,
            "profiled": timing.profiled,
            "profiler_overhead": timing.overhead,
        },
    }


def _layer(row: LayerTime) -> dict[str, Any]:
    forward, backward = _share(row.forward), _share(row.backward)
    return {"name": row.name, "type": row.type, "forward": forward, "backward": backward}


def _share(share: Share) -> dict[str, Any]:
    return {
        "seconds": share.seconds,
        "flops": share.flops,
        "flops_per_second": share.rate,
        "roofline": share.roofline,
    }
