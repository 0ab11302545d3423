"""Snapshots as Caffe's two files, and a training that goes on from them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from netspec.caffe.solverstate import SolverState, read_solverstate, solverstate
from netspec.caffe.weights import load_caffemodel, save_caffemodel
from netspec.diagnostics import DataError, printable
from netspec.files import write_durably
from netspec.ir.net import Net
from netspec.ir.sections import Solver
from netspec.training.runs.checkpoint import State
from netspec.training.runs.snapshot import Snapshot, snapshot_files


def caffe_snapshots(
    net: Net, solver: Solver, folder: Path, warn: Callable[[str], None]
) -> Snapshot:
    """What writes `<prefix>_iter_100.caffemodel` and `.solverstate`.

    The prefix begins in the working directory, as in Caffe; where the folder that it names is not
    there, the files go into `folder`.
    """
    first, _ = snapshot_files(solver, 0, net.name)
    elsewhere = not first.parent.is_dir()
    if elsewhere:
        warn(f"snapshot_prefix: there is no folder {first.parent}; snapshots go into {folder}")

    def write(state: State, iteration: int) -> None:
        files = snapshot_files(solver, iteration, net.name)
        model, memory = (folder / f.name for f in files) if elsewhere else files
        hdf5 = solver.snapshot_format == "HDF5"
        arrays = {**state.weights, **state.statistics}
        write_durably(model, save_caffemodel(net, arrays, hdf5=hdf5))
        passed = sum(step <= iteration for step in solver.stepvalue)
        found = SolverState(iteration, str(model), passed, tuple(_history(net, state)))
        write_durably(memory, solverstate(found, hdf5=hdf5))

    return write


def _history(net: Net, state: State) -> list[NDArray[np.float32]]:
    """The solver's memory as Caffe has it: of each slot a blob for each parameter, in order."""
    return [
        held[p.name] if p.name in held else np.zeros(p.shape, np.float32)
        for held in state.slots.values()
        for p in net.parameters
    ]


@dataclass(frozen=True)
class Restored:
    """Where a training of Caffe's stood."""

    iteration: int
    state: State


def restored(path: Path, net: Net, state: State) -> Restored:
    """`state` with what a `.solverstate` and the weights beside it say; DataError if it misfits."""
    found = read_solverstate(path)
    match = load_caffemodel(_weights_file(path, found), net)
    if match.missing:
        raise DataError(printable(f"{path}: its weights lack `{match.missing[0]}` of the net"))
    names = [p.name for p in net.parameters]
    wanted = len(names) * len(state.slots)
    if len(found.history) != wanted:
        raise DataError(
            f"{printable(str(path))}: has {len(found.history)} blobs of history, and the solver "
            f"keeps {wanted}: {', '.join(state.slots)} of {len(names)} parameters"
        )
    slots = {}
    for i, (slot, held) in enumerate(state.slots.items()):
        blobs = dict(zip(names, found.history[i * len(names) :], strict=False))
        slots[slot] = {name: _fitting(path, name, blobs[name], old) for name, old in held.items()}
    weights = {name: match.arrays[name] for name in state.weights if name in match.arrays}
    statistics = {name: match.arrays.get(name, old) for name, old in state.statistics.items()}
    return Restored(found.iter, State({**state.weights, **weights}, slots, statistics))


def _fitting(
    path: Path, name: str, blob: NDArray[np.float32], old: NDArray[np.float32]
) -> NDArray[np.float32]:
    if blob.size != old.size:
        raise DataError(
            f"{printable(str(path))}: `{name}` has a history of {blob.size} values, not {old.size}"
        )
    return np.array(blob, np.float32).reshape(old.shape)


def _weights_file(path: Path, found: SolverState) -> Path:
    """The weights that go with a state: as it names them, or beside it under its own name."""
    own = path.with_name(re.sub(r"\.solverstate(\.h5)?$", r".caffemodel\1", path.name))
    named: Sequence[Path] = [Path(found.learned_net)] if found.learned_net else []
    candidates = [*named, *[path.with_name(n.name) for n in named], own]
    known = next((c for c in candidates if c.is_file()), None)
    if known is None:
        raise DataError(f"{printable(str(path))}: its weights, {own.name}, are not there")
    return known
