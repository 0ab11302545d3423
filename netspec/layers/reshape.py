"""Reshape: the same cells in other axes."""

from __future__ import annotations

from math import prod
from typing import Annotated, ClassVar

from pydantic import BeforeValidator

from netspec.ir.fields import Fields, Int, many, whole
from netspec.ir.graph import Value
from netspec.ir.layer import (
    CaffeType,
    Context,
    Layer,
    ShapeError,
    Types,
    Values,
    batched,
    checked,
    numbers,
)
from netspec.ir.types import Shape, TensorType, size

_Dim = Annotated[int, BeforeValidator(whole(-1))]


class Dims(Fields):
    """`shape { dim: 0  dim: -1 }`: Caffe's way to write a shape, batch included."""

    dim: Annotated[tuple[_Dim, ...], BeforeValidator(many)] = ()
    """Cells per axis: 0 copies the bottom's axis at the same place, one -1 takes what is left."""


class Reshape(Layer):
    """y = x with `num_axes` axes from `axis` on replaced by `shape` (Caffe, `reshape_layer.cpp`).

    The batch, axis 0, must be copied or left to -1, so that the net runs at any batch size.
    """

    keyword: ClassVar = "reshape"
    caffe: ClassVar = CaffeType("Reshape", "reshape_param")
    counts_labels: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 784 }
        reshape { shape { dim: 0  dim: 1  dim: 28  dim: -1 } }
    """

    shape: Dims
    """The axes that are put in."""
    axis: Int = 0
    """The first axis that is replaced; -1 stands behind the last one."""
    num_axes: Annotated[int, BeforeValidator(whole(-1))] = -1
    """How many axes are replaced: -1 is all that follow, 0 none."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = batched(numbers(bottoms))
        shape, _ = self._resolve(x)
        return checked(x.with_shape(*shape))

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), op = bottoms, context.op
        dims, batch = self._resolve(x.type)
        # 0 copies the batch, -1 takes what is left: no constant holds its size.
        open_dim = 0 if batch == 0 and dims[0] == x.type.batch else -1
        return (op.Reshape(x, op.ints(*dims[:batch], open_dim, *dims[batch + 1 :])),)

    def _resolve(self, x: TensorType) -> tuple[Shape, int]:
        """The shape of the top, and which of its axes grows with the batch."""
        dims, origin = self._replaced(x)
        if origin.count(0) > 1:
            raise ShapeError("the batch, axis 0, is copied twice", field="shape")
        copied, inferred = 0 in origin, dims.index(-1) if -1 in dims else None
        if not copied and inferred is None:
            raise ShapeError(
                f"{size(tuple(dims))} fixes the batch, axis 0: write dim: 0 or -1 for it",
                field="shape",
            )
        batch = origin.index(0) if copied else inferred
        assert batch is not None
        if prod(dims[:batch]) != 1:
            raise ShapeError(
                f"-1 takes the batch, axis 0, and so must stand before {size(tuple(dims[:batch]))}",
                field="shape",
            )
        cells = prod(x.sample)
        fixed = prod(n for i, n in enumerate(dims) if i not in (batch, inferred))
        if cells % fixed or (inferred is None and cells != fixed):
            shown = size(tuple(n for i, n in enumerate(dims) if i != batch))
            raise ShapeError(
                f"{cells} cells per sample, {size(x.sample)}, do not make {shown}", field="shape"
            )
        if inferred is not None:
            dims[inferred] = cells // fixed * (1 if copied else x.batch)
        return tuple(dims), batch

    def _replaced(self, x: TensorType) -> tuple[list[int], list[int | None]]:
        """The top's axes, -1 for the inferred one, and which axis of the bottom each copies."""
        rank = len(x.shape)
        first = self.axis + rank + 1 if self.axis < 0 else self.axis
        end = rank if self.num_axes == -1 else first + self.num_axes
        if not 0 <= first <= rank:
            raise ShapeError(
                f"there is no axis {self.axis}: the bottom is {size(x.shape)}, batch included",
                field="axis",
            )
        if end > rank:
            raise ShapeError(
                f"{self.num_axes} axes from axis {first} on, but {size(x.shape)} has "
                f"{rank - first}",
                field="num_axes",
            )
        inner = self.shape.dim
        if inner.count(-1) > 1:
            raise ShapeError(f"{inner.count(-1)} dims are -1, and only one can be", field="shape")
        origin: list[int | None] = [
            *range(first),
            *(first + i if n == 0 else None for i, n in enumerate(inner)),
            *range(end, rank),
        ]
        beyond = [i for i in origin if i is not None and i >= rank]
        if beyond:
            raise ShapeError(
                f"dim: 0 copies axis {beyond[0]}, but {size(x.shape)} has {rank} axes",
                field="shape",
            )
        numbers_given = (*range(first), *inner, *range(end, rank))
        dims = [
            given if source is None else x.shape[source]
            for given, source in zip(numbers_given, origin, strict=True)
        ]
        return dims, origin
