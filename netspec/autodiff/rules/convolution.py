"""Convolution is bilinear: each cotangent is a convolution of ȳ with the other factor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netspec.autodiff.vjp import Primal, vjp
from netspec.ir.graph import Ops, Value
from netspec.ir.phrases import sum_over


@vjp("Conv")
def conv(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """x̄ = conv_transpose(ȳ, w); w̄[m,c,i] = Σ_n ȳ[n,m]·x[n,c,i::s]; b̄ = Σ ȳ over n,h,w."""
    x, w, *bias = primal.node.inputs
    assert x is not None
    assert w is not None
    window = _window(primal, w)
    # The small ones first: what is emitted in this order holds one large value less.
    w_bar = op.ConvGradWeight(x, y_bar, shape=w.type.shape, **window) if primal.wants(1) else None
    b_bar = [_bias(op, primal, y_bar) for _ in bias]
    x_bar = op.ConvGradInput(y_bar, w, shape=x.type.shape, **window) if primal.wants(0) else None
    return [x_bar, w_bar, *b_bar]


@vjp("ConvTranspose")
def conv_transpose(op: Ops, primal: Primal, y_bar: Value) -> list[Value | None]:
    """x̄ = conv(ȳ, w); w̄ is that of the convolution from ȳ to x; b̄ = Σ ȳ over n,h,w."""
    x, w, *bias = primal.node.inputs
    assert x is not None
    assert w is not None
    window = _window(primal, w)
    w_bar = op.ConvGradWeight(y_bar, x, shape=w.type.shape, **window) if primal.wants(1) else None
    b_bar = [_bias(op, primal, y_bar) for _ in bias]
    x_bar = op.Conv(y_bar, w, **window) if primal.wants(0) else None
    return [x_bar, w_bar, *b_bar]


def _window(primal: Primal, w: Value) -> Mapping[str, Any]:
    """Kernel, strides, pads, dilations and group, none left out."""
    attrs, rank = primal.node.attrs, len(w.type.spatial)
    pads, ones = tuple(attrs.get("pads", (0, 0) * rank)), (1,) * rank
    assert pads[:rank] == pads[rank:], f"{primal.node.name}: cuDNN refuses asymmetric pads {pads}"
    assert attrs.get("auto_pad", "NOTSET") == "NOTSET", primal.node.name
    return {
        "kernel_shape": w.type.spatial,
        "strides": tuple(attrs.get("strides", ones)),
        "pads": pads,
        "dilations": tuple(attrs.get("dilations", ones)),
        "group": attrs.get("group", 1),
    }


def _bias(op: Ops, primal: Primal, y_bar: Value) -> Value | None:
    if not primal.wants(2):
        return None
    return sum_over(op, y_bar, [axis for axis in range(len(y_bar.type.shape)) if axis != 1])
