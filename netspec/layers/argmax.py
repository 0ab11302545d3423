"""Argmax: where the largest cells are."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.fields import Flag, Int, Positive
from netspec.ir.graph import Ops, Value
from netspec.ir.layer import (
    CaffeType,
    Context,
    Layer,
    ShapeError,
    Types,
    Values,
    axis_of,
    batched,
    numbers,
    over_batch,
)
from netspec.ir.types import TensorType


class ArgMax(Layer):
    """y = the places of the `top_k` largest cells, the largest first, as floats.

    Along `axis`, which then has `top_k` cells; or, without one, of all cells of a sample, as
    1 x top_k places or, with `out_max_val`, 2 x top_k: places and values. Of equal cells the last
    comes first (Caffe, `argmax_layer.cpp`).
    """

    keyword: ClassVar = "argmax"
    caffe: ClassVar = CaffeType("ArgMax", "argmax_param", "ARGMAX")
    example: ClassVar = """
        input "data" { shape: 1x28x28 }
        fc { num_output: 10 }
        argmax { top_k: 3 }
    """

    out_max_val: Flag = False
    """Whether the values are put out: beside the places, or with `axis` instead of them."""
    top_k: Positive = 1
    """How many cells."""
    axis: Int | None = None
    """The axis along which cells are compared; unless given, all but the batch are one."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = batched(numbers(bottoms))
        if self.axis is None:
            cells = x.numel // x.batch
            top = (x.batch, 2 if self.out_max_val else 1, self.top_k, *(1 for _ in x.shape[3:]))
        else:
            axis = axis_of(self.axis, x, first=0)
            cells = x.shape[axis]
            top = (*x.shape[:axis], self.top_k, *x.shape[axis + 1 :])
        if self.top_k > cells:
            raise ShapeError(f"top_k {self.top_k} of {cells} cells", field="top_k")
        return (x.with_shape(*top),)

    def bound(self, bottoms: Types) -> bool:
        return self.axis is not None and over_batch(self.axis, bottoms[0])

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), op = bottoms, context.op
        if self.axis is not None:
            values, places = self._largest(op, x, axis_of(self.axis, x.type, first=0))
            return (values if self.out_max_val else places,)
        (top,) = self.infer([x.type])
        found = self._largest(op, op.Reshape(x, op.ints(0, -1)), 1)
        rows = [op.Reshape(v, op.ints(0, 1, *top.shape[2:])) for v in found]
        return (op.Concat(*rows[::-1], axis=1) if self.out_max_val else rows[1],)

    def _largest(self, op: Ops, x: Value, axis: int) -> tuple[Value, Value]:
        """Values and places; of equal ones ONNX takes the first, and so finds them backwards."""
        cells = x.type.shape[axis]
        backwards = op.Gather(x, op.ints(*reversed(range(cells))), axis=axis)
        values, places = op.TopK(backwards, op.ints(self.top_k), outputs=2, axis=axis)
        places = op.Cast(op.Sub(op.scalar(cells - 1, "int64"), places), to="float32")
        return values, places
