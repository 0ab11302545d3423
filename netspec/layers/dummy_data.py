"""Dummy data: blobs that fillers fill, for trials without a data set."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt
from typing import Annotated, ClassVar

from pydantic import BeforeValidator

from netspec.ir.fields import MAX_INT, Extent, Fields, many
from netspec.ir.filler import Filler
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Role, ShapeError, Types, Values, checked
from netspec.ir.phrases import affine
from netspec.ir.several_tops import SeveralTops
from netspec.ir.types import Shape, TensorType


class BlobShape(Fields):
    """`shape { dim: 64  dim: 3 }`: a whole shape, batch included."""

    dim: Extent
    """Cells per axis."""


class DummyData(SeveralTops):
    """y = what a filler gives: the same at every pass if it is `constant` or `bilinear`, drawn anew
    at each if not (Caffe, `dummy_data_layer.cpp`).

    One shape for all tops, or one for each; one filler for all, or one for each.
    """

    keyword: ClassVar = "dummy_data"
    caffe: ClassVar = CaffeType("DummyData", "dummy_data_param", "DUMMY_DATA")
    role: ClassVar = Role.SOURCE
    bottoms: ClassVar = range(1)
    tops: ClassVar = range(1, MAX_INT)
    example: ClassVar = """
        dummy_data "noise" { shape { dim: [4, 3, 8, 8] }  data_filler { type: gaussian } }
        fc { num_output: 2 }
    """

    shape: Annotated[tuple[BlobShape, ...], BeforeValidator(many)]
    """The shape of all tops, or of each; axis 0 is the batch."""
    data_filler: Annotated[tuple[Filler, ...], BeforeValidator(many)] = (Filler(),)
    """What fills all tops, or each."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        for field, given in (("shape", self.shape), ("data_filler", self.data_filler)):
            if len(given) not in (1, self._count):
                message = f"{len(given)} for {self._count} tops: takes one for all, or one for each"
                raise ShapeError(message, field=field)
        for shape, filler in self._each():
            if misfit := filler.misfit(shape):
                raise ShapeError(misfit, field="data_filler")
            if filler.type == "orthogonal":
                raise ShapeError("orthogonal fills weights, not data", field="data_filler")
        return checked(*(TensorType(shape) for shape, _ in self._each()))

    def bound(self, bottoms: Types) -> bool:
        return True

    def _each(self) -> list[tuple[Shape, Filler]]:
        """Shape and filler of each top."""
        shapes = [shape.dim for shape in self.shape] * (self._count if len(self.shape) == 1 else 1)
        fillers = self.data_filler * (self._count if len(self.data_filler) == 1 else 1)
        return list(zip(shapes, fillers, strict=True))

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        return tuple(
            self._filled(_Draw(context, 2 * i + 1), shape, filler)
            for i, (shape, filler) in enumerate(self._each())
        )

    def _filled(self, draw: _Draw, shape: Shape, filler: Filler) -> Value:
        op = draw.context.op
        y: Value | None = None
        match filler.type:
            case "constant":
                y = op.Expand(op.scalar(filler.value), op.ints(*shape))
            case "bilinear":
                import numpy as np

                one = filler.sample((1, 1, *shape[2:]), np.random.default_rng(0))
                y = op.Expand(op.constant(one), op.ints(*shape))
            case "uniform":
                y = affine(op, draw.uniform(shape), filler.max - filler.min, filler.min)
            case "gaussian":
                y = affine(op, draw.normal(shape), filler.std, filler.mean)
                if filler.sparse >= 0:
                    kept = op.Less(draw.uniform(shape), op.scalar(filler.sparse / shape[0]))
                    y = op.Mul(y, op.Cast(kept, to="float32"))
            case "msra":
                y = affine(op, draw.normal(shape), sqrt(2 / filler.fan(shape)), 0)
            case "xavier":
                limit = sqrt(3 / filler.fan(shape))
                y = affine(op, draw.uniform(shape), 2 * limit, -limit)
            case "positive_unitball":
                drawn = draw.uniform(shape)
                axes = op.ints(*range(1, len(shape)))
                y = op.Div(drawn, op.ReduceSum(drawn, axes, keepdims=1)) if shape[1:] else drawn
        assert y is not None
        return y


@dataclass
class _Draw:
    """Draws tensors, fed in TRAIN; in TEST, where nobody feeds them, by the runtime itself."""

    context: Context
    seed: int

    def uniform(self, shape: Shape) -> Value:
        """Uniform in [0, 1)."""
        if self.context.training:
            return self.context.random(shape)
        self.seed += 1
        drawn: Value = self.context.op.RandomUniform(shape=shape, seed=float(self.seed))
        return drawn

    def normal(self, shape: Shape) -> Value:
        """√(-2·log(1 - u))·cos(2πv), normal for uniform u and v (Box and Muller 1958)."""
        op, u, v = self.context.op, self.uniform(shape), self.uniform(shape)
        radius = op.Sqrt(affine(op, op.Log(affine(op, u, -1, 1)), -2, 0))
        normal: Value = op.Mul(radius, op.Cos(affine(op, v, 2 * pi, 0)))
        return normal
