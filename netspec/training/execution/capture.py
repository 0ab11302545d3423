"""A graph that changes state in place, recorded by CUDA without counting that as steps."""

from __future__ import annotations

from collections.abc import Sequence
from threading import get_ident
from typing import Protocol

from netspec.runtime.state import Memory


class Runner(Protocol):
    """What runs a graph once."""

    def run(self) -> None: ...


class Captured:
    """A binding of a session with `enable_cuda_graph`: recorded by the first run, then replayed.

    What it rests on, seen of onnxruntime 1.31.1 over stand-in CUDA libraries:

    - The first run executes the graph three times: twice to warm up, once as the replay of what
      it recorded between (microsoft/onnxruntime#32243). A graph that only writes its outputs may
      do so; one that writes over its inputs is three steps on. So the state is kept on the host
      before, and brought back after the first run; the step itself is then a replay.
    - A replay looks at no binding: it reads and writes the addresses that it was recorded with.
      `Memory`, `Feed` and `Scalars` keep theirs for life and are overwritten where they are.
    - It repeats the copies from the host that it was recorded with, from memory that no longer is
      ours: the target's formulations make none. Random numbers come as inputs.
    - A recording belongs to a session and to a thread: a run by another thread would record anew.
    """

    def __init__(self, binding: Runner, state: Sequence[Memory]) -> None:
        """`state` is all that the graph writes over and reads again."""
        self._binding = binding
        self._state = state
        self._thread: int | None = None

    def run(self) -> None:
        """One execution."""
        if self._thread is None:
            self._record()
        assert self._thread == get_ident(), "a training keeps to the thread that began it"
        self._binding.run()

    def _record(self) -> None:
        kept = [memory.read().copy() for memory in self._state]
        self._binding.run()
        for memory, array in zip(self._state, kept, strict=True):
            memory.write(array)
        self._thread = get_ident()
