"""Stochastic depth: a whole branch is dropped at random while training."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BeforeValidator

from netspec.ir.fields import Says, real
from netspec.ir.graph import Value
from netspec.ir.layer import Context, Layer, Types, Values, numbers
from netspec.ir.phrases import cast_to
from netspec.ir.types import TensorType


class DropPath(Layer):
    """TRAIN: y = b · x, b drawn for the whole batch, 1 by `survival`, else 0; TEST: survival · x.

    In Huang et al. 2016 (arXiv:1603.09382) survival falls from block to block, from near 1 at the
    image to 0.5 at the classifier.
    """

    keyword: ClassVar = "drop_path"
    in_place: ClassVar = True
    example: ClassVar = """
        input "data" { shape: 8x16x16 }
        residual {
          conv { num_output: 8  kernel_size: 3  pad: 1 }
          drop_path { survival: 0.8 }
        }
        relu
    """

    survival: Annotated[
        float, BeforeValidator(real(above=0, maximum=1)), Says("number above 0, to 1")
    ] = 0.5
    """How likely the branch is kept."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        (x,) = numbers(bottoms)
        return (x,)

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), op = bottoms, context.op
        survival = op.scalar(self.survival)
        if self.survival == 1:
            return (op.Identity(x),)
        if not context.training:
            return (op.Mul(x, survival),)
        drawn = op.Less(context.random((1,) * len(x.type.shape)), survival)
        return (op.Mul(x, cast_to(op, drawn, "float32")),)
