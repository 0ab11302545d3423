"""Solver states: by google.protobuf, by h5py, and what is none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from netspec.caffe.solverstate import SolverState, read_solverstate, solverstate
from netspec.diagnostics import DataError

HISTORY = tuple(np.arange(n, dtype=np.float32).reshape(1, n) for n in (3, 2))


def check(state: SolverState) -> None:
    assert (state.iter, state.learned_net, state.current_step) == (5000, "lenet.caffemodel", 2)
    for held, expected in zip(state.history, HISTORY, strict=True):
        np.testing.assert_array_equal(held, expected)


def test_what_protobuf_writes(proto: SimpleNamespace, tmp_path: Path) -> None:
    theirs = proto.SolverState(iter=5000, learned_net="lenet.caffemodel", current_step=2)
    for array in HISTORY:
        blob = theirs.history.add(data=array.reshape(-1).tolist())
        blob.shape.dim.extend(array.shape)
    path = tmp_path / "lenet_iter_5000.solverstate"
    path.write_bytes(theirs.SerializeToString())
    check(read_solverstate(path))


def test_what_is_written(proto: SimpleNamespace, tmp_path: Path) -> None:
    content = b"".join(solverstate(SolverState(5000, "lenet.caffemodel", 2, HISTORY)))
    theirs = proto.SolverState.FromString(content)
    assert (theirs.iter, theirs.learned_net, theirs.current_step) == (5000, "lenet.caffemodel", 2)
    assert [tuple(blob.shape.dim) for blob in theirs.history] == [(1, 3), (1, 2)]
    assert list(theirs.history[0].data) == [0, 1, 2]
    path = tmp_path / "state"
    path.write_bytes(content)
    check(read_solverstate(path))


def test_a_missing_step_is_0(proto: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_bytes(proto.SolverState(iter=7).SerializeToString())
    state = read_solverstate(path)
    assert (state.iter, state.learned_net, state.current_step, state.history) == (7, "", 0, ())


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"iter": -1}, "byte 0: iter is -1"), ({"current_step": -2}, "current_step is -2")],
)
def test_numbers_below_0(
    proto: SimpleNamespace, tmp_path: Path, fields: dict[str, int], words: str
) -> None:
    path = tmp_path / "state"
    path.write_bytes(proto.SolverState(**fields).SerializeToString())
    with pytest.raises(DataError, match=words):
        read_solverstate(path)


def hdf5(path: Path, **changes: Any) -> None:
    h5py = pytest.importorskip("h5py")
    values: dict[str, Any] = {
        "iter": np.array([5000], np.int32),
        "learned_net": np.bytes_(b"lenet.caffemodel"),
        "current_step": np.array([2], np.int32),
        "history/0": HISTORY[0],
        "history/1": HISTORY[1],
    } | changes
    with h5py.File(path, "w") as file:
        for name, value in values.items():
            if value is not None:
                file[name] = value


def test_hdf5(tmp_path: Path) -> None:
    path = tmp_path / "lenet_iter_5000.solverstate.h5"
    hdf5(path)
    check(read_solverstate(path))
    hdf5(path, learned_net="lenet.caffemodel")
    check(read_solverstate(path))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"iter": None}, "iter"),
        ({"iter": np.array([1, 2])}, "`iter` is not one number from 0 on"),
        ({"iter": np.array([-1])}, "`iter` is not one number from 0 on"),
        ({"iter": np.array([1.5])}, "is not an array of the expected type"),
        ({"learned_net": np.arange(3)}, "is not an array of the expected type"),
        ({"learned_net": None}, "learned_net"),
        ({"history/0": None}, "the arrays of `history` are not named 0, 1, …"),
        ({"history/0/0": 1.0, "history/0": None}, "is not an array of the expected type"),
    ],
)
def test_hdf5_that_is_no_state(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    path = tmp_path / "state.h5"
    hdf5(path, **changes)
    with pytest.raises(DataError, match=words):
        read_solverstate(path)
