"""What onnxruntime's arena takes of the system: the values alive, and what lies unused."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field

from netspec.codegen.memory import lifetimes, workspace
from netspec.ir.graph import Graph

_UNIT = 256
"""Bytes to whose multiples requests are rounded up."""
_BINS = 21
"""Free chunks lie in bins of 256 B, 512 B, … 256 MiB and more."""
_WASTE = 128 << 20
"""A chunk that would leave so much unused is split; else one twice as large as asked for is."""


def arena_bytes(graph: Graph, *, reuse: bool = False) -> int:
    """Bytes that a first run of `graph` makes the arena allocate, outputs and inputs left out.

    The arena grows by what is requested (`kSameAsRequested`), and no memory pattern is used.
    """
    made, last = lifetimes(graph, reuse=reuse)
    begins: list[list[int]] = [[] for _ in graph.ops]
    for buffer, i in made.items():
        begins[i].append(buffer.type.nbytes)
    ends: list[list[_Chunk]] = [[] for _ in graph.ops]
    buffers = iter(made)
    arena = _Arena()
    for i, op in enumerate(graph.ops):
        for nbytes in begins[i]:
            ends[last[next(buffers)]].append(arena.allocate(nbytes))
        taken = workspace(op)
        if taken:
            arena.free(arena.allocate(taken))
        for chunk in ends[i]:
            arena.free(chunk)
    return arena.taken


@dataclass(eq=False, slots=True)
class _Chunk:
    """A piece of what was allocated in one go, between its neighbours there."""

    size: int
    place: int
    """Where it lies: the order of what is allocated is that of its addresses."""
    free: bool = False
    before: _Chunk | None = None
    after: _Chunk | None = None

    @property
    def key(self) -> tuple[int, int]:
        return self.size, self.place


@dataclass
class _Arena:
    """The best fit of the lowest bin that has one (onnxruntime, `bfc_arena.cc`)."""

    taken: int = 0
    _free: list[list[tuple[int, int]]] = field(default_factory=lambda: [[] for _ in range(_BINS)])
    _at: dict[int, _Chunk] = field(default_factory=dict)
    """The free chunks by place."""

    def allocate(self, nbytes: int) -> _Chunk:
        size = -(-max(nbytes, 1) // _UNIT) * _UNIT
        chunk = self._find(size)
        if chunk is None:
            chunk = _Chunk(size, self.taken)
            self.taken += size
        chunk.free = False
        if chunk.size >= 2 * size or chunk.size - size >= _WASTE:
            rest = _Chunk(chunk.size - size, chunk.place + size, before=chunk, after=chunk.after)
            if chunk.after is not None:
                chunk.after.before = rest
            chunk.size, chunk.after = size, rest
            self._keep(rest)
        return chunk

    def free(self, chunk: _Chunk) -> None:
        """Give a chunk back; free neighbours become one with it."""
        after, before = chunk.after, chunk.before
        if after is not None and after.free:
            self._remove(after)
            _merge(chunk, after)
        if before is not None and before.free:
            self._remove(before)
            _merge(before, chunk)
            chunk = before
        self._keep(chunk)

    def _find(self, size: int) -> _Chunk | None:
        for free in self._free[_bin(size) :]:
            i = bisect_left(free, (size, -1))
            if i < len(free):
                _, place = free.pop(i)
                return self._at.pop(place)
        return None

    def _keep(self, chunk: _Chunk) -> None:
        chunk.free = True
        insort(self._free[_bin(chunk.size)], chunk.key)
        self._at[chunk.place] = chunk

    def _remove(self, chunk: _Chunk) -> None:
        self._free[_bin(chunk.size)].remove(chunk.key)
        del self._at[chunk.place]


def _bin(size: int) -> int:
    return min(_BINS - 1, (size // _UNIT).bit_length() - 1)


def _merge(first: _Chunk, second: _Chunk) -> None:
    first.size += second.size
    first.after = second.after
    if second.after is not None:
        second.after.before = first
