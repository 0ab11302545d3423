"""Tensor types: element type and static shape."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TypeAlias

Shape: TypeAlias = tuple[int, ...]

AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
"""What spatial axes are called, by how many there are."""


def size(shape: Shape) -> str:
    """A shape as a spec writes it: `64x112x112`; a scalar is `1`."""
    return "x".join(map(str, shape)) or "1"


def occupied(extent: Shape) -> Shape:
    """The axes that hold more than one cell."""
    return tuple(n for n in extent if n > 1)


@dataclass(frozen=True, slots=True)
class TensorType:
    """The type of a blob: batch first, then channels, then spatial axes; a loss has no axis."""

    shape: Shape
    dtype: str = "float32"

    @property
    def batch(self) -> int:
        return self.shape[0]

    @property
    def channels(self) -> int:
        return self.shape[1]

    @property
    def spatial(self) -> Shape:
        return self.shape[2:]

    @property
    def sample(self) -> Shape:
        """The shape without the batch axis."""
        return self.shape[1:]

    @property
    def numel(self) -> int:
        return prod(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of one value."""
        return {"float32": 4, "float64": 8, "float16": 2, "int64": 8, "uint64": 8, "int32": 4,
                "uint8": 1, "bool": 1}[self.dtype]  # fmt: skip

    @property
    def nbytes(self) -> int:
        return self.numel * self.itemsize

    def with_shape(self, *shape: int) -> TensorType:
        """The same element type with another shape."""
        return replace(self, shape=shape)

    def with_dtype(self, dtype: str) -> TensorType:
        """The same shape with another element type."""
        return replace(self, dtype=dtype)

    def __str__(self) -> str:
        return f"{self.dtype}[{size(self.shape)}]"
