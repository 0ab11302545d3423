"""Joining, cutting, reducing and spreading, over whole blocks."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from netspec.codegen.formulation import Forms, Sight, formulation, is_image
from netspec.ir.graph import Op, Value
from netspec.ir.phrases import reshape


def _on_channels(sight: Sight, node: Op) -> bool:
    """Whole blocks on both sides of every cut."""
    values = [*node.inputs, *node.outputs]
    images = [v for v in values if v is not None and v.type.dtype == "float32"]
    return (
        all(is_image(v) and v.type.channels % sight.block == 0 for v in images)
        and node.attrs.get("axis", 0) in (1, -3)
        and sight.any_blocked(*node.inputs)
    )


@formulation("Concat", "blocked", layout="blocked", accepts=_on_channels)
def concat(forms: Forms, node: Op) -> Sequence[Value]:
    """Blocks of channels side by side."""
    return (forms.op.Concat(*(forms.blocked(v) for v in node.inputs if v), axis=1),)


@formulation("Split", "blocked", layout="blocked", accepts=_on_channels, blocked=None)
def split(forms: Forms, node: Op) -> Sequence[Value]:
    """Blocks of channels apart."""
    x, *_ = node.inputs
    assert x is not None
    sizes = forms.op.ints(*(v.type.channels for v in node.outputs))
    made = forms.op.Split(forms.blocked(x), sizes, outputs=len(node.outputs), axis=1)
    return (made,) if isinstance(made, Value) else tuple(made)


def _over_plane(node: Op) -> bool:
    x, *_ = node.inputs
    (y,) = node.outputs
    if x is None or not is_image(x):
        return False
    n, c, *_ = x.type.shape
    return y.type.shape in ((n, c), (n, c, 1, 1)) and prod(x.type.spatial) > 1


def _blocked_plane(sight: Sight, node: Op) -> bool:
    return _over_plane(node) and sight.any_blocked(node.inputs[0])


def _over_others(forms: Forms, node: Op) -> bool:
    """Whether what looks like a number per plane is one per what is just as long."""
    if node.attrs.get("keepdims", 1):
        return False
    axes = forms.graph.constants.get(node.inputs[1]) if node.inputs[1] else None
    return axes is None or sorted(int(axis) % 4 for axis in axes) != [2, 3]


def _as_it_is(forms: Forms, node: Op) -> Sequence[Value]:
    made: Sequence[Value] = forms.op.append(
        node.op_type, [v and forms.plain(v) for v in node.inputs], 1, node.attrs
    )
    return made


@formulation("ReduceMean", "blocked", layout="blocked", accepts=_blocked_plane, blocked=())
def mean(forms: Forms, node: Op) -> Sequence[Value]:
    """The mean of every plane."""
    x, *_ = node.inputs
    assert x is not None
    if _over_others(forms, node):
        return _as_it_is(forms, node)
    pooled = forms.op.NchwcGlobalAveragePool(forms.blocked(x))
    return (_per_channel(forms, pooled, node),)


@formulation("ReduceSum", "blocked", layout="blocked", accepts=_blocked_plane, blocked=())
def total(forms: Forms, node: Op) -> Sequence[Value]:
    """The sum of every plane."""
    x, *_ = node.inputs
    assert x is not None
    if _over_others(forms, node):
        return _as_it_is(forms, node)
    op, blocked = forms.op, forms.blocked(x)
    n, c, *extent = blocked.type.shape
    lines = reshape(op, blocked, n, c // forms.block, prod(extent), forms.block)
    return (_per_channel(forms, op.ReduceSum(lines, op.ints(2), keepdims=0), node),)


def _per_channel(forms: Forms, values: Value, node: Op) -> Value:
    """One number per image and channel, which lies alike in both layouts, without the filling."""
    (y,) = node.outputs
    n, c = y.type.shape[:2]
    op, whole = forms.op, forms.whole(c)
    flat = reshape(op, values, n, whole)
    if whole != c:
        flat = op.Slice(flat, op.ints(0), op.ints(c), op.ints(1))
    return reshape(op, flat, *y.type.shape)


def _wanted_blocked(sight: Sight, node: Op) -> bool:
    """A number per plane, spread over it for someone who works in blocks."""
    x, *_ = node.inputs
    (y,) = node.outputs
    if x is None or not is_image(y) or x.type.shape != (*y.type.shape[:2], 1, 1):
        return False
    return any(
        sight.any_blocked(*reader.inputs) or not sight.ahead.isdisjoint(reader.inputs)
        for reader in sight.readers.get(y, ())
    )


@formulation("Expand", "blocked", layout="blocked", accepts=_wanted_blocked)
def expand(forms: Forms, node: Op) -> Sequence[Value]:
    """Each number over its plane."""
    x, *_ = node.inputs
    assert x is not None
    scales = (1, 1, *node.outputs[0].type.spatial)
    return (forms.op.NchwcUpsample(forms.blocked(x), scales=scales, mode="nearest"),)
