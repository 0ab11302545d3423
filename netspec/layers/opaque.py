"""Opaque: a layer of which only its edges are known."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import BeforeValidator, PrivateAttr

from netspec.ir.fields import MAX_INT, Fields, NonNegative, Text, many
from netspec.ir.layer import CaffeType, Layer, ShapeError, Types, checked
from netspec.ir.types import TensorType, size
from netspec.wording import counted


class TopShape(Fields):
    """`shape { dim: 300  dim: 5 }`: Caffe's way to write a shape, the first axis included."""

    dim: Annotated[tuple[NonNegative, ...], BeforeValidator(many)] = ()
    """Cells per axis, none for a single number; 0 copies the first bottom's axis at that place."""


class Opaque(Layer):
    """Any code of `type`, such as Caffe's `Python` layers: counted by its shapes, never run.

    It has no weights. Tops without a `shape` are like its bottoms, one for one, and may then
    overwrite them. The first axis of a shape is the batch, `dim: 0`, or whatever the code makes
    of it: 300 proposals of an image are `dim: 300  dim: 5` (Caffe, `python_layer.hpp`).
    """

    keyword: ClassVar = "opaque"
    caffe: ClassVar = CaffeType("Python")
    bottoms: ClassVar = range(MAX_INT)
    tops: ClassVar = range(1, MAX_INT)
    in_place: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 3x32x32 }
        conv "rpn" { num_output: 18  kernel_size: 3 }
        opaque "proposal" { type: "Python"  shape { dim: [300, 5] } }
    """

    type: Text
    """What it is: Caffe's name of the layer type, for reports and messages."""
    shape: Annotated[tuple[TopShape, ...], BeforeValidator(many)] = ()
    """The shape of each top, in their order."""
    _count: int = PrivateAttr(default=1)

    @property
    def word(self) -> str:
        return self.type

    @property
    def obstacle(self) -> str:
        article = "an" if self.type[:1] in "AEIOUaeiou" else "a"
        return f"is {article} {self.type} layer"

    def with_tops(self, count: int) -> Self:
        named = self.model_copy()
        named._count = count
        return named

    def traceable(self, bottoms: Types) -> bool:
        return False

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        if self.shape:
            return checked(*(self._top(shape, bottoms) for shape in self.shape))
        if self._count != len(bottoms):
            tops, read = counted(self._count, "top"), counted(len(bottoms), "bottom")
            raise ShapeError(
                f"{tops} of {read}: the shape of each top must be given",
                hint="`shape { dim: 0  dim: 64 }` for each, 0 for the batch",
            )
        return tuple(bottoms)

    def _top(self, shape: TopShape, bottoms: Types) -> TensorType:
        copied = bottoms[0].shape if bottoms else ()
        for axis, cells in enumerate(shape.dim):
            if cells == 0 and axis >= len(copied):
                has = f"{size(copied)} has {len(copied)} axes" if bottoms else "nothing is read"
                raise ShapeError(f"dim: 0 copies axis {axis}, but {has}", field="shape")
        return TensorType(tuple(n or copied[axis] for axis, n in enumerate(shape.dim)))
