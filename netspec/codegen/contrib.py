"""Operators of onnxruntime's own domain that a training graph may use, with their shape rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from netspec.ir.types import TensorType

ShapeRule: TypeAlias = Callable[
    [tuple[TensorType | None, ...], Mapping[str, Any]], tuple[TensorType, ...]
]


def _fused_matmul(
    types: tuple[TensorType | None, ...], attrs: Mapping[str, Any]
) -> tuple[TensorType, ...]:
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


CONTRIB: dict[str, ShapeRule] = {"FusedMatMul": _fused_matmul}
"""Each has a kernel on the CPU and on CUDA in the stock wheel."""
