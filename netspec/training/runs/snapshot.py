"""Where the files of a snapshot go, as Caffe names them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from netspec.ir.sections import Solver
from netspec.training.runs.checkpoint import State

Snapshot: TypeAlias = Callable[[State, int], None]
"""Writes the state after so many iterations in a form of its own, such as Caffe's two files."""


def snapshot_files(solver: Solver, iteration: int, stem: str) -> tuple[Path, Path]:
    """The file of the weights, and that of the solver's state (Caffe, `SnapshotFilename`).

    `lenet` → `lenet_iter_500.caffemodel` and `lenet_iter_500.solverstate`, with `.h5` behind them
    if `snapshot_format` is HDF5. A prefix that is a folder is one for files of the name `stem`.
    """
    assert solver.snapshot_prefix is not None
    prefix = Path(solver.snapshot_prefix)
    if solver.snapshot_prefix.endswith("/") or prefix.is_dir():
        prefix = prefix / stem
    end = ".h5" if solver.snapshot_format == "HDF5" else ""
    named = f"{prefix.name}_iter_{iteration}"
    return (
        prefix.with_name(f"{named}.caffemodel{end}"),
        prefix.with_name(f"{named}.solverstate{end}"),
    )
