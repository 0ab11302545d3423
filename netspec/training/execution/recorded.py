"""Graphs loaded for a device: run plainly, recorded by CUDA, or recorded if that proves right."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from netspec.codegen.emit import emit
from netspec.codegen.recordable import unrecordable
from netspec.diagnostics import NetspecError
from netspec.ir.graph import Graph, Value
from netspec.runtime.device import Device
from netspec.runtime.session import make_session
from netspec.runtime.state import Binding, Memory
from netspec.training.execution.capture import Captured, Runner

Warn: TypeAlias = Callable[[str], None]

_CHECKED = 3
"""Runs that are held against plain ones."""
_TOLERANCE = 1e-6
"""Of a memory's largest value, by which a replay may differ from a plain run."""
_SPREAD = 4.0
"""Times what two plain runs differ by: sums by atomics come out otherwise in each."""


def silent(_: str) -> None:
    """Warns nobody."""


class Step(Protocol):
    """A graph, and what its inputs and outputs are called."""

    @property
    def graph(self) -> Graph: ...
    @property
    def names(self) -> Mapping[Value, str]: ...


class Recordable(Protocol):
    """A binding of a session that records its first run, unless it is run plainly."""

    def run(self) -> None: ...
    def run_plainly(self) -> None: ...


def loaded(
    step: Step,
    device: Device,
    addresses: Mapping[str, int],
    written: Sequence[Memory],
    *,
    in_place: bool = False,
    warn: Warn = silent,
) -> Runner:
    """The session of a graph, with each input and output at its address.

    `written` is the memory that a run changes, which with `in_place` it reads, too. Where a device
    records graphs only if that proves right, a graph of which it is known that it cannot be is run
    plainly, and so is one that onnxruntime does not take, each with a warning.
    """
    model = emit(step.graph, names=step.names)

    def bound(device: Device) -> Binding:
        return Binding(make_session(model, device), device, addresses)

    plainly = replace(device, graphs=False, checked=False)
    if not device.graphs:
        return bound(device)
    if not device.checked:
        return Captured(bound(device), written) if in_place else bound(device)
    if why := next(unrecordable(step.graph), ""):
        warn(_given_up(step.graph, why))
        return bound(plainly)
    try:
        recording = bound(device)
    except NetspecError:
        raise
    except Exception as fault:  # whatever onnxruntime asks of a graph beside that
        warn(_given_up(step.graph, (str(fault).splitlines() or [type(fault).__name__])[0]))
        return bound(plainly)
    return Checked(recording, written, step.graph, warn)


class Checked:
    """A recorded graph whose first runs are made plainly, too, from the same state.

    If one of them leaves anything else, its plain result stands, and so it goes on.
    """

    def __init__(
        self, binding: Recordable, written: Sequence[Memory], graph: Graph, warn: Warn
    ) -> None:
        self._binding, self._written, self._graph, self._warn = binding, written, graph, warn
        self._captured = Captured(binding, written)
        self._left = _CHECKED
        self._given_up = False

    def run(self) -> None:
        """One execution."""
        if self._given_up:
            self._binding.run_plainly()
        elif self._left:
            self._left -= 1
            self._compare()
        else:
            self._captured.run()

    def _compare(self) -> None:
        before = self._read()
        plain, again, replayed = (
            self._after(before, run)
            for run in (self._binding.run_plainly, self._binding.run_plainly, self._captured.run)
        )
        for ours, theirs, other in zip(replayed, plain, again, strict=True):
            difference = _apart(ours, theirs)
            if difference > max(_TOLERANCE, _SPREAD * _apart(other, theirs)):
                self._given_up = True
                self._write(plain)
                self._warn(_given_up(self._graph, f"a replay is off by {difference:.1e}"))
                return

    def _after(self, before: Sequence[NDArray[np.float32]], run: Callable[[], None]) -> _Arrays:
        self._write(before)
        run()
        return self._read()

    def _read(self) -> _Arrays:
        return [memory.read().copy() for memory in self._written]

    def _write(self, arrays: Sequence[NDArray[np.float32]]) -> None:
        for memory, array in zip(self._written, arrays, strict=True):
            memory.write(array)


_Arrays: TypeAlias = list[NDArray[np.float32]]


def _apart(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """The largest difference, relative to the largest number; ∞ if other cells are not finite."""
    sound = np.isfinite(theirs)
    if not np.array_equal(sound, np.isfinite(ours)):
        return float("inf")
    a, b = (np.where(sound, array, 0).astype(np.float64) for array in (ours, theirs))
    return float(np.abs(a - b).max(initial=0) / (np.abs(b).max(initial=0) or 1.0))


def _given_up(graph: Graph, why: str) -> str:
    return f"CUDA graphs are left out for `{graph.name}`: {why}"
