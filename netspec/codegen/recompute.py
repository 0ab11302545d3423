"""Forgets what blocks computed within, and computes it again when their gradients want it.

x → block → y → … → ȳ → gradients   →   x → block → y → … → ȳ;  x → block again → gradients
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from netspec.diagnostics import UsageError
from netspec.ir.graph import Graph, Op, Value, consumers
from netspec.ir.named import meant, within
from netspec.ir.net import Net

ALL = "all"
"""The name that stands for every block of the top level but the last."""

_SMALL = 64
"""What is smaller by this factor than its block's largest value is kept: batch statistics, losses.

They weigh nothing, and cost a pass over the large ones.
"""


def recompute(graph: Graph, segments: Sequence[Collection[str]], *, forward: int) -> Graph:
    """The graph with the values that are made within a segment dropped before the backward.

    A segment is a set of layers, see `segments`; no layer is in two. The first `forward` operators
    are the forward, all others may read what is made again. Of what a segment's operators make,
    these are kept as they are:

    - what an operator of the forward reads outside of the segment, so the input of each segment;
    - what leaves the graph;
    - what is small (`_SMALL`);
    - what is drawn at random by an operator: netspec feeds its random tensors, which stay.

    An operator's outputs are kept or dropped together, the small ones as the large ones are: so a
    batch normalisation's gradient finds the mean, the variance and the output of one operator.
    What leaves the graph is always of the first copy, so that nothing is observed twice.

    Before the first operator of the backward that reads another one, a second copy of what makes
    it is placed, back to values that are kept; nothing is made a third time. The results are the
    same to the bit, as the copies are the same operators on the same values.

    Operators and outputs that nothing reads any more are left to `simplify`.
    """
    made_by = _dropped(graph, segments, forward)
    position = {op: i for i, op in enumerate(graph.ops)}
    again: dict[Value, Value] = {}
    ops = list(graph.ops[:forward])
    for op in graph.ops[forward:]:
        missing = _missing(op.inputs, made_by, again)
        for original in sorted(missing, key=position.__getitem__):
            copy = replace(
                _reading(original, again),
                outputs=tuple(Value(f"{v.name}:again", v.type) for v in original.outputs),
                name=f"{original.name}:again",
            )
            again.update(zip(original.outputs, copy.outputs, strict=True))
            ops.append(copy)
        ops.append(_reading(op, again))
    return replace(graph, ops=tuple(ops))


def _dropped(graph: Graph, segments: Sequence[Collection[str]], forward: int) -> Mapping[Value, Op]:
    """The values that are not kept, and the operator that makes each."""
    segment_of = {layer: i for i, layers in enumerate(segments) for layer in layers}
    assert len(segment_of) == sum(map(len, segments)), "a layer is in two segments"
    ops = [op for op in graph.ops[:forward] if op.scope in segment_of]
    largest: dict[int, int] = {}
    for op in ops:
        size = max(value.type.nbytes for value in op.outputs)
        index = segment_of[op.scope]
        largest[index] = max(size, largest.get(index, 0))
    readers = consumers(graph.ops[:forward])
    leaving = set(graph.outputs)
    dropped: dict[Value, Op] = {}
    for op in ops:
        index = segment_of[op.scope]
        large = [v for v in op.outputs if v.type.nbytes * _SMALL > largest[index]]
        read_outside = any(
            segment_of.get(reader.scope) != index for v in large for reader in readers.get(v, ())
        )
        if large and not (read_outside or leaving.intersection(large) or _draws(op)):
            dropped.update(dict.fromkeys(op.outputs, op))
    return dropped


def _draws(op: Op) -> bool:
    return op.op_type.startswith("Random") or op.op_type in ("Bernoulli", "Multinomial")


def _missing(
    wanted: Iterable[Value | None], made_by: Mapping[Value, Op], again: Mapping[Value, Value]
) -> set[Op]:
    """The operators to be copied before `wanted` can be read."""
    missing: set[Op] = set()
    pending = list(wanted)
    while pending:
        value = pending.pop()
        if value is None or value in again or value not in made_by:
            continue
        if made_by[value] not in missing:
            missing.add(made_by[value])
            pending.extend(made_by[value].inputs)
    return missing


def _reading(op: Op, again: Mapping[Value, Value]) -> Op:
    """The operator over the values that were made again, where they were."""
    inputs = tuple(again.get(v, v) if v is not None else None for v in op.inputs)
    return op if inputs == op.inputs else replace(op, inputs=inputs)


def segments(names: Sequence[str], net: Net) -> tuple[frozenset[str], ...]:
    """The layers of each block that a user names, for `recompute`.

    A name is a layer's, or that of a block or group, and then means every layer within it. Each
    name is one segment: its input is kept, what is inside is computed twice. A pattern such as
    `stage*/*` stands for every block or layer that it matches, part by part. `all` stands for
    every block of the top level but the last, whose gradients come first, when nothing of it could
    have been dropped yet; a layer by itself has nothing within it that could be.

    Raises UsageError for a name that is none, and for one that lies within another.
    """
    blocks = within(net)
    chosen: dict[str, None] = {}
    for name in names:
        chosen.update(dict.fromkeys(_meant(name, blocks, net)))
    for name in chosen:
        for other in chosen:
            if name.startswith(f"{other}/"):
                raise UsageError(f"`{name}` lies within `{other}`: recompute one of them")
    return tuple(frozenset(blocks[name]) for name in chosen)


def _meant(name: str, blocks: Mapping[str, Sequence[str]], net: Net) -> Sequence[str]:
    """The blocks that one of the user's words stands for."""
    if name == ALL:
        found = [n for n, layers in blocks.items() if "/" not in n and list(layers) != [n]]
        if len(found) < 2:
            raise UsageError(f"{net.name} has no two blocks to recompute: name layers or blocks")
        return found[:-1]
    return meant(name, blocks)
