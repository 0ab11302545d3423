"""Reductions over cells that lie apart, brought together first: CUDA is fast with no others."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from netspec.codegen.formulation import Forms, Sight, formulation
from netspec.ir.graph import Op, Value
from netspec.ir.phrases import reshape


def _reduced(node: Op) -> list[bool]:
    """For each axis of the operand whether it shrinks to one cell, which `keepdims` lets see."""
    (x, *_), (y,) = node.inputs, node.outputs
    assert x is not None
    return [n != m for n, m in zip(x.type.shape, y.type.shape, strict=True)]


def _apart(sight: Sight, node: Op) -> bool:
    """Whether the axes are not one block at the beginning or the end, such as channels alone."""
    x = node.inputs[0]
    assert x is not None
    if sight.block or not node.attrs.get("keepdims", 1):
        return False
    wide = [axis for axis, n in zip(_reduced(node), x.type.shape, strict=True) if n > 1]
    return sum(a != b for a, b in pairwise(wide)) > 1


def moved(forms: Forms, node: Op) -> Sequence[Value]:
    """The axes moved behind the others, and reduced there."""
    x = node.inputs[0]
    assert x is not None
    op, reduced = forms.op, _reduced(node)
    perm = sorted(range(len(reduced)), key=reduced.__getitem__)
    last = op.ints(*range(reduced.count(False), len(reduced)))
    together = op.Transpose(forms.plain(x), perm=tuple(perm))
    (y,) = op.append(node.op_type, [together, last], 1, {"keepdims": 0})
    return (reshape(op, y, *node.outputs[0].type.shape),)


for _word in ("ReduceMax", "ReduceMean", "ReduceSum"):
    formulation(_word, "moved", accepts=_apart)(moved)
