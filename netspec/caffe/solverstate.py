"""`.solverstate`: where a solver of Caffe's stood, to go on from there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from netspec.blob import narrowed, read_blob, write_blob
from netspec.hdf5 import Hdf5, is_hdf5, library, open_hdf5
from netspec.mapped import map_file
from netspec.wire import Buffer, Floats, Message, Writer, decoding

_ITER, _LEARNED_NET, _HISTORY, _CURRENT_STEP = 1, 2, 3, 4


@dataclass(frozen=True, eq=False, slots=True)
class SolverState:
    """A snapshot of a solver, without the weights."""

    iter: int
    """Updates made."""
    learned_net: str
    """The weight file that was written with it, as the solver named it; often empty."""
    current_step: int
    """How many values of `stepvalue` are passed."""
    history: tuple[Floats, ...]
    """A buffer per learned parameter of the net, in the net's order, and of AdaDelta and Adam a
    second one of each behind them (`adadelta_solver.cpp`, `adam_solver.cpp`)."""


def read_solverstate(path: Path) -> SolverState:
    """The state in a `.solverstate` or `.solverstate.h5`; else DataError."""
    if is_hdf5(path):
        with open_hdf5(path) as file:
            return _from_hdf5(file)
    with decoding(path):
        message = Message(map_file(path))
        for number, name in {_ITER: "iter", _CURRENT_STEP: "current_step"}.items():
            if message.integer(number) < 0:
                raise message.fault(f"{name} is {message.integer(number)}", number)
        return SolverState(
            message.integer(_ITER),
            message.text(_LEARNED_NET),
            message.integer(_CURRENT_STEP),
            tuple(read_blob(blob) for blob in message.messages(_HISTORY, "history")),
        )


def solverstate(state: SolverState, *, hdf5: bool = False) -> list[Buffer]:
    """The content of a `.solverstate`, whose arrays are not copied, or of a `.solverstate.h5`."""
    if hdf5:
        return [_to_hdf5(state)]
    writer = Writer()
    writer.integer(_ITER, state.iter)
    writer.text(_LEARNED_NET, state.learned_net)
    for blob in state.history:
        writer.message(_HISTORY, write_blob(blob))
    writer.integer(_CURRENT_STEP, state.current_step)
    return writer.chunks


def _to_hdf5(state: SolverState) -> bytes:
    """As `SnapshotSolverStateToHDF5` writes it (`sgd_solver.cpp`)."""
    content = BytesIO()
    with library("a .solverstate.h5").File(content, "w") as file:
        file["iter"] = np.array([state.iter], np.int32)
        file["learned_net"] = state.learned_net
        file["current_step"] = np.array([state.current_step], np.int32)
        group = file.create_group("history")
        for i, blob in enumerate(state.history):
            group[str(i)] = np.asarray(blob, "<f4")
    return content.getvalue()


def _from_hdf5(file: Hdf5) -> SolverState:
    root = file.members(file.root)
    arrays = file.members(root["history"])
    if sorted(arrays, key=len) != sorted(map(str, range(len(arrays))), key=len):
        raise ValueError("the arrays of `history` are not named 0, 1, …")
    history = tuple(narrowed(file.array(arrays[str(i)], "fiu")) for i in range(len(arrays)))
    learned_net = bytes(file.array(root["learned_net"], "SO").reshape(-1)[0])
    return SolverState(
        _number(file, root, "iter"),
        learned_net.decode("utf-8", "backslashreplace"),
        _number(file, root, "current_step"),
        history,
    )


def _number(file: Hdf5, members: Mapping[str, Any], name: str) -> int:
    values = file.array(members[name], "iu").reshape(-1)
    if values.size != 1 or values[0] < 0:
        raise ValueError(f"`{name}` is not one number from 0 on")
    return int(values[0])
