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

    The net runs at any batch size if the batch, axis 0, is copied or left to -1; where cells cross
    from sample to sample it is bound to that of the shape.
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
        return checked(x.with_shape(*self._resolve(x)[0]))

    def bound(self, bottoms: Types) -> bool:
        return self._resolve(bottoms[0])[1] is None

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), op = bottoms, context.op
        dims, batch = self._resolve(x.type)
        if batch is None:
            return (op.Reshape(x, op.ints(*dims)),)
        # 0 copies the batch, -1 takes what is left: no constant holds its size.
        open_dim = 0 if batch == 0 and dims[0] == x.type.batch else -1
        return (op.Reshape(x, op.ints(*dims[:batch], open_dim, *dims[batch + 1 :])),)

    def _resolve(self, x: TensorType) -> tuple[Shape, int | None]:
        """The shape of the top, and which of its axes grows with the batch; None if it may not."""
        dims, origin = self._replaced(x)
        inferred = dims.index(-1) if -1 in dims else None
        batch = origin.index(0) if origin.count(0) == 1 else inferred
        if batch is None or 0 in origin[batch + 1 :] or prod(dims[:batch]) != 1:
            return self._fixed(x, dims, inferred), None
        cells = prod(x.sample)
        fixed = prod(n for i, n in enumerate(dims) if i not in (batch, inferred))
        if batch == inferred and cells % fixed:
            return self._fixed(x, dims, inferred), None
        if cells % fixed or (inferred is None and cells != fixed):
            shown = size(tuple(n for i, n in enumerate(dims) if i != batch))
            raise ShapeError(
                f"{cells} cells per sample, {size(x.sample)}, do not make {shown}", field="shape"
            )
        if inferred is not None:
            dims[inferred] = cells // fixed * (x.batch if batch == inferred else 1)
        return tuple(dims), batch

    def _fixed(self, x: TensorType, dims: list[int], inferred: int | None) -> Shape:
        """The shape of a top whose cells cross from sample to sample: it holds the batch size."""
        given = prod(n for i, n in enumerate(dims) if i != inferred)
        if x.numel % given or (inferred is None and x.numel != given):
            raise ShapeError(
                f"{x.numel} cells, {size(x.shape)}, do not make {size(tuple(dims))}",
                field="shape",
                hint="dim: 0 copies the batch, axis 0, whatever its size",
            )
        return tuple(x.numel // given if i == inferred else n for i, n in enumerate(dims))

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
