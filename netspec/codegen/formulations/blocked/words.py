"""What formulations in blocks say again and again: convolutions, scalings and views."""

from __future__ import annotations

from typing import Any, TypeAlias, TypedDict

from netspec.codegen.formulation import Forms
from netspec.ir.graph import Op, Ops, Value
from netspec.ir.phrases import reshape
from netspec.ir.types import Shape

STEEP = 3e38
"""A slope that takes every normal number out of [0, 1]: HardSigmoid(STEEP·x) is [x > 0]."""
ONE = (1, 1)
Activation: TypeAlias = tuple[str, tuple[float, ...]]
RELU: Activation = ("Relu", ())
NONE = (0, 0, 0, 0)


def convolve(
    op: Ops,
    x: Value,
    w: Value,
    bias: Value | None = None,
    added: Value | None = None,
    *,
    stride: Shape = ONE,
    pads: Shape = NONE,
    dilation: Shape = ONE,
    group: int = 1,
    activation: Activation | None = None,
) -> Value:
    """activation(conv(x, w) + bias + added); `added` is written over if nobody reads it later.

    onnxruntime writes `added` to the output before it reads x: the output must never take the
    place of x, and so x itself is added by an operator of its own.
    """
    if added is x:
        assert activation in (None, RELU), activation
        alone = convolve(op, x, w, bias, stride=stride, pads=pads, dilation=dilation, group=group)
        sum = op.Add(alone, added)
        return op.Relu(sum) if activation else sum  # type: ignore[no-any-return]
    attrs: dict[str, Any] = {}
    if activation is not None:
        attrs["activation"], parameters = activation
        if parameters:
            attrs["activation_params"] = parameters
    y: Value = op.NchwcConv(
        x, w, bias, added, kernel_shape=w.type.spatial, strides=stride, pads=pads,
        dilations=dilation, group=group, **attrs,
    )  # fmt: skip
    return y


def rescale(
    forms: Forms,
    x: Value,
    factor: Value | None = None,
    bias: Value | None = None,
    added: Value | None = None,
    *,
    stride: Shape = ONE,
    pads: Shape = NONE,
    activation: Activation | None = None,
) -> Value:
    """activation(x·factor + bias + added), channel by channel, in one threaded pass; padding, too.

    Factors are vectors over the channels of x, which is blocked.
    """
    channels = x.type.channels
    if factor is None:
        w = forms.ones(channels, 1, 1, 1)
    else:
        w = reshape(forms.op, factor, channels, 1, 1, 1)
    return convolve(
        forms.op,
        x,
        w,
        bias,
        added,
        stride=stride,
        pads=pads,
        group=channels,
        activation=activation,
    )


class Ending(TypedDict):
    """What `convolve` and `rescale` take of an epilogue."""

    added: Value | None
    activation: Activation | None


def ending(forms: Forms, node: Op) -> Ending:
    """The work of the operators that stand behind `node` and that it does for them."""
    epilogue = forms.epilogue(node)
    return {
        "added": forms.blocked(epilogue.added) if epilogue.added else None,
        "activation": RELU if epilogue.relu else None,
    }


def step(op: Ops, y: Value) -> Value:
    """[y > 0], as 0 and 1."""
    above: Value = op.HardSigmoid(y, alpha=STEEP, beta=0.0)
    return above


def widened(forms: Forms, x: Value, left: int, right: int, *, again: bool = False) -> Value:
    """`x` with columns of zeros at its sides: inside of a convolution they take a slow path.

    Gradients make it `again`: kept from the forward on, it would cost as much memory as x itself,
    and it is made in a hundredth of the convolution's time.
    """
    if left == right == 0:
        return x
    key = ("widened", x, left, right, again)
    return forms.once(key, lambda: rescale(forms, x, pads=(0, left, 0, right)))


def interleaved(forms: Forms, phases: list[list[Value]]) -> Value:
    """Cells of x[r][c] at every s-th row and column from (r, c): s·s blocked tensors as one."""
    op, block = forms.op, forms.block
    n, c, height, width = phases[0][0].type.shape
    lines = n * c // block * height
    rows = [
        op.Concat(*(reshape(op, v, lines * width, 1, block) for v in row), axis=1)
        if len(row) > 1
        else row[0]
        for row in phases
    ]
    across = width * len(phases[0])
    rows = [reshape(op, row, lines, 1, across * block) for row in rows]
    whole = op.Concat(*rows, axis=1) if len(rows) > 1 else rows[0]
    return reshape(op, whole, n, c, height * len(phases), across)


def cropped(forms: Forms, x: Value, height: int, width: int) -> Value:
    """The first rows and columns of a blocked tensor."""
    op, block = forms.op, forms.block
    n, c, *extent = x.type.shape
    if tuple(extent) == (height, width):
        return x
    planes = reshape(op, x, n * c // block, *extent, block)
    cut = op.Slice(planes, op.ints(0, 0), op.ints(height, width), op.ints(1, 2))
    return reshape(op, cut, n, c, height, width)


def product_sums(forms: Forms, a: Value, b: Value) -> Value:
    """Σ a·b over the plane, for each image and channel, N x C: one pass, nothing in between."""
    op = forms.op
    n, c, *extent = a.type.shape
    sums = convolve(
        op, reshape(op, a, 1, n * c, *extent), reshape(op, b, n * c, 1, *extent), group=n * c
    )
    return reshape(op, sums, n, c)
