"""Operators that move values: each cotangent goes back to where its value came from."""

from __future__ import annotations

from netspec.autodiff.vjp import Primal, vjp
from netspec.ir.graph import Ops, Value
from netspec.ir.phrases import cast_to, pad, reshape, sum_over, sum_to, zeros


def _only_first(primal: Primal, x_bar: Value) -> list[Value | None]:
    return [x_bar, *(None for _ in primal.node.inputs[1:])]


def _constant(op: Ops, primal: Primal, index: int) -> list[int] | None:
    """The integers behind input `index`, None where it is left out."""
    inputs = primal.node.inputs
    if index >= len(inputs) or (value := inputs[index]) is None:
        return None
    array = op.known(value)
    assert array is not None, f"{primal.node.name}: input {index} must be a constant"
    return [int(i) for i in array.ravel()]


@vjp("Identity")
def identity(_op: Ops, _: Primal, y_bar: Value) -> tuple[Value]:
    """x̄ = ȳ."""
    return (y_bar,)


@vjp("Cast")
def cast(op: Ops, primal: Primal, y_bar: Value) -> tuple[Value]:
    """x̄ = ȳ in the element type of x."""
    (x,) = primal.node.inputs
    assert x is not None
    return (cast_to(op, y_bar, x.type.dtype),)


@vjp("Reshape")
@vjp("Flatten")
@vjp("Squeeze")
@vjp("Unsqueeze")
def reshaped(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """x̄ = ȳ in the shape of x."""
    x, *_ = primal.node.inputs
    assert x is not None
    return _only_first(primal, reshape(op, y_bar, *x.type.shape))


@vjp("Transpose")
def transpose(op: Ops, primal: Primal, y_bar: Value) -> tuple[Value]:
    """x̄ = ȳ with its axes back in place."""
    rank = len(y_bar.type.shape)
    perm = list(primal.node.attrs.get("perm", range(rank)[::-1]))
    return (op.Transpose(y_bar, perm=tuple(perm.index(axis) for axis in range(rank))),)


@vjp("Expand")
def expand(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """x̄ = Σ ȳ over what x is broadcast to."""
    x, *_ = primal.node.inputs
    assert x is not None
    return _only_first(primal, sum_to(op, y_bar, x.type.shape))


@vjp("Tile")
def tile(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """x̄ = Σ of the copies of x in ȳ."""
    x, *_ = primal.node.inputs
    assert x is not None
    shape = x.type.shape
    for axis, (n, tiled) in enumerate(zip(shape, y_bar.type.shape, strict=True)):
        if tiled > n:
            before, after = shape[:axis], y_bar.type.shape[axis + 1 :]
            copies = reshape(op, y_bar, *before, tiled // n, n, *after)
            y_bar = reshape(op, sum_over(op, copies, [axis]), *before, n, *after)
    return _only_first(primal, y_bar)


@vjp("Concat")
def concat(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """x̄ᵢ = the part of ȳ that xᵢ is."""
    axis, inputs = primal.node.attrs["axis"], primal.node.inputs
    sizes = [x.type.shape[axis] for x in inputs if x is not None]
    if len(inputs) == 1:
        return [y_bar]
    if sum(primal.wanted) > 1:
        parts = op.Split(y_bar, op.ints(*sizes), outputs=len(sizes), axis=axis)
        return [part if primal.wants(i) else None for i, part in enumerate(parts)]
    wanted = primal.wanted.index(True)
    start = sum(sizes[:wanted])
    bounds = op.ints(start), op.ints(start + sizes[wanted]), op.ints(axis)
    return [op.Slice(y_bar, *bounds) if i == wanted else None for i in range(len(inputs))]


@vjp("Split")
def split(op: Ops, primal: Primal, *y_bars: Value | None) -> list[Value | None]:
    """x̄ = the ȳᵢ side by side, zeros for a part that nothing depends on."""
    parts = [
        y_bar or zeros(op, y.type.shape, y.type.dtype)
        for y, y_bar in zip(primal.node.outputs, y_bars, strict=True)
    ]
    axis = primal.node.attrs.get("axis", 0)
    x_bar = op.Concat(*parts, axis=axis) if len(parts) > 1 else parts[0]
    return _only_first(primal, x_bar)


@vjp("Slice")
def slice_(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """x̄ = ȳ where it was cut from, zeros around it and, with a step, between its cells."""
    x, *_ = primal.node.inputs
    assert x is not None
    rank = len(x.type.shape)
    starts = _constant(op, primal, 1)
    assert starts is not None
    axes = _constant(op, primal, 3) or list(range(len(starts)))
    steps = _constant(op, primal, 4) or [1] * len(starts)
    assert min(steps) > 0, f"{primal.node.name}: a negative step has no gradient rule"
    before = [0] * rank
    for axis, start, step in zip(axes, starts, steps, strict=True):
        axis, length = axis % rank, x.type.shape[axis]
        before[axis] = max(0, start + length) if start < 0 else min(start, length)
        y_bar = _interleave(op, y_bar, axis, step)
    after = [n - b - k for n, b, k in zip(x.type.shape, before, y_bar.type.shape, strict=True)]
    return _only_first(primal, pad(op, y_bar, before, after))


def _interleave(op: Ops, x: Value, axis: int, step: int) -> Value:
    """`x` with step - 1 zeros behind each cell of an axis."""
    if step == 1 or x.type.shape[axis] == 1:
        return x
    shape = list(x.type.shape)
    apart = reshape(op, x, *shape[: axis + 1], 1, *shape[axis + 1 :])
    none = [0] * (len(shape) - axis - 1)
    apart = pad(op, apart, [0, *none], [step - 1, *none])
    return reshape(op, apart, *shape[:axis], shape[axis] * step, *shape[axis + 1 :])


@vjp("Pad")
def pad_(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """x̄ = ȳ without the padding."""
    assert primal.node.attrs.get("mode", "constant") == "constant", primal.node.name
    rank = len(y_bar.type.shape)
    counts, axes = _constant(op, primal, 1), _constant(op, primal, 3)
    assert counts is not None
    half = len(counts) // 2
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes if axes is not None else range(rank)):
        before[axis % rank], after[axis % rank] = -counts[i], -counts[half + i]
    return _only_first(primal, pad(op, y_bar, before, after))
