"""Operators that ONNX does not define: their domains and shape rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from netspec.ir.graph import Op
from netspec.ir.types import TensorType

Types: TypeAlias = tuple[TensorType | None, ...]
Attrs: TypeAlias = Mapping[str, Any]
ShapeRule: TypeAlias = Callable[[Types, Attrs], tuple[TensorType, ...]]

CONTRIB = "com.microsoft"
"""onnxruntime's own, with kernels on the CPU and on CUDA."""
NCHWC = "com.microsoft.nchwc"
"""onnxruntime's channel-blocked ones, on the CPU alone: internal, so proven when a training starts.

A value keeps the shape N x C x H x W, with C rounded up to whole blocks, and lies in memory as
N x C/b x H x W x b.
"""
GRADIENT = "dev.netspec"
"""What gradients and their rules say and no wheel runs: a target puts its own in their place."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """An operator outside of ONNX's own domain, as models call it."""

    domain: str
    op_type: str
    infer: ShapeRule
    unsaid: frozenset[str] = frozenset()
    """Attributes that tell the shape rule what the operator finds out by itself."""


def _fused_matmul(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    """`alpha * (aᵀ or a) @ (bᵀ or b)`; com.microsoft FusedMatMul-1.

    Batch axes are equal, or b has none: other broadcasts copy from the host on CUDA.
    """
    a, b = types
    assert a is not None
    assert b is not None
    assert b.shape[:-2] in (a.shape[:-2], ()), (a, b)
    rows, inner = a.shape[-2:][::-1] if attrs.get("transA") else a.shape[-2:]
    depth, columns = b.shape[-2:][::-1] if attrs.get("transB") else b.shape[-2:]
    assert inner == depth, (a, b, dict(attrs))
    return (a.with_shape(*a.shape[:-2], rows, columns),)


def _nchwc_conv(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    """`activation(conv(x, w) + bias + sum)`; inputs x, w, bias, sum."""
    x, w, *rest = types
    assert x is not None
    assert w is not None
    assert tuple(attrs["kernel_shape"]) == w.spatial, (w, attrs)
    assert w.shape[1] * attrs["group"] == x.channels, (x, w, dict(attrs))
    y = x.with_shape(x.batch, w.shape[0], *_slid(x, attrs))
    assert len(rest) < 2 or rest[1] in (None, y), (rest, y)
    return (y,)


def _nchwc_pool(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    (x,) = types
    assert x is not None
    return (x.with_shape(x.batch, x.channels, *_slid(x, attrs)),)


def _slid(x: TensorType, attrs: Attrs) -> tuple[int, ...]:
    """The positions of a window on each spatial axis, rounded down."""
    rank, pads = len(x.spatial), attrs["pads"]
    spans = zip(
        x.spatial, attrs["kernel_shape"], attrs["strides"], pads[:rank], pads[rank:],
        attrs["dilations"], strict=True,
    )  # fmt: skip
    return tuple((n + p + q - d * (k - 1) - 1) // s + 1 for n, k, s, p, q, d in spans)


def _global_pool(types: Types, _: Attrs) -> tuple[TensorType, ...]:
    (x,) = types
    assert x is not None
    return (x.with_shape(x.batch, x.channels, *(1 for _ in x.spatial)),)


def _upsample(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    (x,) = types
    assert x is not None
    return (x.with_shape(*(n * s for n, s in zip(x.shape, attrs["scales"], strict=True))),)


def _reorder_input(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    """Plain to blocked, with `channels` of them: those of x and zeros to fill the last block."""
    (x,) = types
    assert x is not None
    assert x.channels % 4 == 0, f"ReorderInput takes channels by fours, not {x.channels}"
    return (x.with_shape(x.batch, attrs["channels"], *x.spatial),)


def _reorder_output(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    """Blocked to plain, or with `channels_last` to N x H x W x C."""
    (x,) = types
    assert x is not None
    channels = attrs["channels"]
    if attrs.get("channels_last"):
        return (x.with_shape(x.batch, *x.spatial, channels),)
    return (x.with_shape(x.batch, channels, *x.spatial),)


def _like(index: int) -> ShapeRule:
    def infer(types: Types, _: Attrs) -> tuple[TensorType, ...]:
        like = types[index]
        assert like is not None
        return (like,)

    return infer


def _shaped(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    (first, *_) = types
    assert first is not None
    return (first.with_shape(*attrs["shape"]),)


def _batch_normalization_grad(types: Types, _: Attrs) -> tuple[TensorType, ...]:
    y_bar, scale = types[0], types[2]
    assert y_bar is not None
    assert scale is not None
    return (y_bar, scale, scale)


FOREIGN: dict[str, Foreign] = {
    "FusedMatMul": Foreign(CONTRIB, "FusedMatMul", _fused_matmul),
    "NchwcConv": Foreign(NCHWC, "Conv", _nchwc_conv),
    "NchwcMaxPool": Foreign(NCHWC, "MaxPool", _nchwc_pool),
    "NchwcGlobalAveragePool": Foreign(NCHWC, "GlobalAveragePool", _global_pool),
    "NchwcUpsample": Foreign(NCHWC, "Upsample", _upsample),
    "ReorderInput": Foreign(NCHWC, "ReorderInput", _reorder_input, frozenset({"channels"})),
    "ReorderOutput": Foreign(NCHWC, "ReorderOutput", _reorder_output),
    # x → x, whose gradient ends here; simplifying leaves it out
    "StopGradient": Foreign(GRADIENT, "StopGradient", _like(0)),
    # ȳ, w → x̄ of the type `shape`
    "ConvGradInput": Foreign(GRADIENT, "ConvGradInput", _shaped),
    # x, ȳ → w̄ of the type `shape`
    "ConvGradWeight": Foreign(GRADIENT, "ConvGradWeight", _shaped),
    # ȳ, y → x̄
    "ReluGrad": Foreign(GRADIENT, "ReluGrad", _like(0)),
    # ȳ, x, y, indices → x̄
    "MaxPoolGrad": Foreign(GRADIENT, "MaxPoolGrad", _like(1)),
    # ȳ → x̄ of the type `shape`
    "AveragePoolGrad": Foreign(GRADIENT, "AveragePoolGrad", _shaped),
    # ȳ, x, y → x̄
    "LRNGrad": Foreign(GRADIENT, "LRNGrad", _like(1)),
    # ȳ, x, scale, mean, variance → x̄, scale̅, bias̅
    "BatchNormalizationGrad": Foreign(
        GRADIENT, "BatchNormalizationGrad", _batch_normalization_grad
    ),
}
"""By the word that `op.<word>(…)` takes; words differ from ONNX's where op_types do not."""


def word(node: Op) -> str:
    """What a Builder calls an operator."""
    for called, foreign in FOREIGN.items():
        if (foreign.domain, foreign.op_type) == (node.domain, node.op_type):
            return called
    return node.op_type
