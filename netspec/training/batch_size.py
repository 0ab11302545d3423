"""The batch whose training a device's memory holds: chosen, or named where another was too much."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from netspec.compiler import elaborate
from netspec.diagnostics import NetspecError
from netspec.ir.layer import Phase
from netspec.ir.training_memory import training_memory
from netspec.report.columns import bytes_text
from netspec.report.summary import summarise
from netspec.runtime.session import OutOfMemory
from netspec.training.execution.machine import Machine
from netspec.training.setup.experiment import Experiment

_SHARE = 0.8
"""Of the free memory; the rest is for the tests' batches, for cuDNN's workspaces, which it alone
knows (on an H200 10 to 25 % of a step), and for whoever else is there."""

_UPDATES = 32
"""In an epoch, which a larger batch must leave."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A batch size and why it is this."""

    batch: int
    why: str


def chosen_batch(experiment: Experiment, machine: Machine, free: int | None) -> Choice:
    """The largest power of two whose training takes at most 80 % of the `free` bytes.

    And which leaves an epoch 32 updates, or 8 samples each where there are not so many. Raises
    NetspecError if not even one sample fits.
    """
    if free is None:
        raise NetspecError("this system does not tell its free memory: give --batch a number")
    samples = len(experiment.train)
    most = max(samples // (_UPDATES * experiment.solver.iter_size), min(8, samples))
    batch = _power_of_two(most)
    budget = _budget(experiment, machine, free)
    needed = training_bytes(experiment, machine, batch)
    beyond = None
    while needed > budget and batch > 1:
        beyond, batch = needed, batch // 2
        needed = training_bytes(experiment, machine, batch)
    takes = f"training takes {bytes_text(needed)}"
    left = f"{bytes_text(max(budget, 0))} are to be had, {_SHARE:.0%} of what is free"
    if needed > budget:
        raise NetspecError(f"not even a batch of 1 fits: {takes}, and {left}")
    if beyond is None:
        an_epoch = f"an epoch of {samples:,} samples"
        updates = samples // (batch * experiment.solver.iter_size)
        if updates < _UPDATES:
            why = f"{an_epoch} has {updates:,} updates, which are few already"
        else:
            why = f"{2 * batch:,} would leave {an_epoch} fewer than {_UPDATES} updates"
        return Choice(batch, f"{takes}, {left}; {why}")
    return Choice(batch, f"{takes}, {left}; {2 * batch:,} would take {bytes_text(beyond)}")


def training_bytes(experiment: Experiment, machine: Machine, batch: int) -> int:
    """What a training step of this batch holds at its worst moment, as `check` counts it."""
    nets = elaborate(experiment.spec, batch=batch)
    found = summarise(nets, Phase.TRAIN, target=machine.target.name).training
    assert found is not None, "what trains has a loss"
    return found.total


def shortage(experiment: Experiment, machine: Machine, free: int | None) -> str:
    """What to expect of a training that is estimated to take more than is free; else nothing.

    Linux hands out memory that it does not have, and kills who uses it.
    """
    net = experiment.nets.train.net
    estimate = training_memory(net, experiment.solver)
    if free is None or estimate is None:
        return ""
    needed = estimate.total + _data_bytes(experiment, machine)
    if needed <= free:
        return ""
    return (
        f"training takes some {bytes_text(needed)} in batches of {net.batch:,}, and "
        f"{bytes_text(free)} of memory are free: --batch auto takes what fits"
    )


@contextmanager
def memory_explained(experiment: Experiment, machine: Machine, free: int | None) -> Iterator[None]:
    """Let whoever runs out of memory hear which batch would fit into what was `free` before."""
    try:
        yield
    except OutOfMemory as fault:
        batch = experiment.nets.train.net.batch
        asked = "" if fault.wanted is None else f" ({bytes_text(fault.wanted)} were asked for)"
        said = f"the {machine.device}'s memory does not hold a training step of {batch:,} samples"
        raise NetspecError(f"{said}{asked}; {_remedy(experiment, machine, free)}") from fault


def _remedy(experiment: Experiment, machine: Machine, free: int | None) -> str:
    batch = experiment.nets.train.net.batch
    needed = training_bytes(experiment, machine, batch)
    if free is None:
        return f"it takes {bytes_text(needed)} by our count: --batch {max(1, batch // 2)} may fit"
    count = f"it takes {bytes_text(needed)} by our count, and {bytes_text(free)} were free"
    smaller, budget = _power_of_two(batch - 1), _budget(experiment, machine, free)
    while smaller > 1 and training_bytes(experiment, machine, smaller) > budget:
        smaller //= 2
    most = free - _data_bytes(experiment, machine)
    if not smaller or training_bytes(experiment, machine, smaller) > most:
        return f"{count}; not even one sample fits: --recompute all takes less"
    return f"{count}: --batch {smaller} should fit"


def _budget(experiment: Experiment, machine: Machine, free: int) -> int:
    """The bytes that a training step may take."""
    return int(free * _SHARE) - _data_bytes(experiment, machine)


def _data_bytes(experiment: Experiment, machine: Machine) -> int:
    """What the data sets will take beside; on the CPU they are there already.

    Those that are read batch by batch take next to nothing.
    """
    if not machine.device.cuda:
        return 0
    sets = [experiment.train, *([experiment.test] if experiment.test else [])]
    return sum(array.nbytes for data in sets for array in data.arrays.values())


def _power_of_two(most: int) -> int:
    """The largest one that is not above `most`; 0 of 0."""
    return 1 << (most.bit_length() - 1) if most else 0
