"""Cutting and joining without operands that CUDA copies from the host in every run.

onnxruntime passes up to 32 equal parts with the launch of a kernel. For others it fills a table on
the host and copies it, four copies for each Split; a CUDA graph would replay them from memory that
the first run gave back.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from netspec.codegen.formulation import Forms, Sight, formulation
from netspec.ir.graph import Op, Ops, Value

PARTS = 32
"""As many as a launch carries."""


def joined(op: Ops, parts: Sequence[Value], axis: int) -> Value:
    """Parts of a tensor side by side: some at a time, until they are one."""
    while len(parts) > 1:
        runs = [parts[i : i + PARTS] for i in range(0, len(parts), PARTS)]
        parts = [op.Concat(*run, axis=axis) if len(run) > 1 else run[0] for run in runs]
    (whole,) = parts
    return whole


def _unequal(sight: Sight, node: Op) -> bool:
    alike = len({part.type.shape for part in node.outputs}) == 1
    return not sight.block and (not alike or len(node.outputs) > PARTS)


@formulation("Split", "slices", accepts=_unequal)
def split(forms: Forms, node: Op) -> Sequence[Value]:
    """A Slice for each part."""
    op, x = forms.op, node.inputs[0]
    assert x is not None
    x, axis = forms.plain(x), node.attrs.get("axis", 0)
    ends = list(accumulate(part.type.shape[axis] for part in node.outputs))
    starts = [0, *ends[:-1]]
    return [
        op.Slice(x, op.ints(start), op.ints(end), op.ints(axis))
        for start, end in zip(starts, ends, strict=True)
    ]


def _many(sight: Sight, node: Op) -> bool:
    return not sight.block and len(node.inputs) > PARTS


@formulation("Concat", "by parts", accepts=_many)
def concat(forms: Forms, node: Op) -> Sequence[Value]:
    """In several steps."""
    parts = [forms.plain(v) for v in node.inputs if v]
    return (joined(forms.op, parts, node.attrs["axis"]),)
