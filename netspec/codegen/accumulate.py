"""Accumulation as a graph: what the batches of one iteration give, added up before the update."""

from __future__ import annotations

from collections.abc import Sequence

from netspec.codegen.builder import Builder
from netspec.codegen.update import (
    StatisticGroup,
    UpdateStep,
    WeightGroup,
    assert_in_place,
    gradient,
)
from netspec.ir.graph import Value
from netspec.ir.types import TensorType


def accumulate_graph(
    groups: Sequence[WeightGroup],
    statistics: Sequence[StatisticGroup],
    iter_size: int,
    *,
    first: bool,
    shards: int = 1,
) -> UpdateStep:
    """One of the `iter_size` batches of an iteration added to those before it, in place.

    total, g → total + g        folded, batch → (1 - f)·folded + (f / F)·batch        sound · finite

    f is a group's `fraction` and F its `share` of all the batches, so that at the end an update
    that folds `folded` in with F has done what one after each batch would have. The first batch of
    an iteration reads nothing old: it begins. Of a batch in `shards`, g is the sum of theirs.

    Inputs are `gradients:<group>`, `batch:<group>` and `finite` of the batch and, unless `first`,
    `total:<group>`, `folded:<group>` and `sound`; outputs the `next:` of the latter.
    """
    op = Builder()
    aliases: dict[Value, Value] = {}
    names: dict[Value, str] = {}

    def add(old: str, x: Value, *, keep: float, share: float) -> None:
        scaled = op.Mul(x, op.scalar(share)) if first or share != 1 else x
        total = scaled
        if not first:
            before = op.input(old, x.type)
            kept = op.Mul(before, op.scalar(keep)) if keep != 1 else before
            total = op.Add(kept, scaled)
            aliases[total] = before
        names[total] = f"next:{old}"

    for group in groups:
        add(f"total:{group.name}", gradient(op, group, shards), keep=1, share=1)
    for one in statistics:
        keep, share = 1 - one.fraction, one.fraction / one.share(iter_size)
        batch = op.input(f"batch:{one.name}", TensorType((one.numel,)))
        add(f"folded:{one.name}", batch, keep=keep, share=share)
    finite = op.input("finite", TensorType(()))
    sound = op.scalar(1) if first else op.input("sound", TensorType(()))
    both = op.Mul(sound, finite)
    if not first:
        aliases[both] = sound
    names[both] = "next:sound"
    graph = op.graph(tuple(names), name="accumulate")
    assert_in_place(graph, aliases)
    return UpdateStep(graph, names, aliases)
