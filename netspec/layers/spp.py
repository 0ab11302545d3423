"""Spatial pyramid pooling: a vector of one length for images of any size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator

from netspec.ir.fields import Says, whole
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, ShapeError, Types, Values, checked, image
from netspec.ir.types import TensorType, size
from netspec.ir.window import Window
from netspec.layers.pool import Pooling


class SpatialPyramid(Layer):
    """y = the poolings of the bottom into 1x1, 2x2, 4x4, … bins, flattened one after the other.

    With h the `pyramid_height`, channels · (4^h - 1) / 3 values; of one level alone channels x 1x1.
    A level's window of ceil(x / bins) cells steps by its own size, padded on both sides by half of
    what it reaches too far (He et al. 2014, arXiv:1406.4729; Caffe, `spp_layer.cpp`).
    """

    keyword: ClassVar = "spp"
    caffe: ClassVar = CaffeType("SPP", "spp_param")
    example: ClassVar = """
        input "data" { shape: 16x13x13 }
        spp { pyramid_height: 3 }
        fc { num_output: 10 }
    """

    pyramid_height: Annotated[int, BeforeValidator(whole(1, 20)), Says("whole number, 1 to 20")]
    """Levels; each has twice as many bins on an axis as the one before."""
    pool: Literal["MAX", "AVE"] = "MAX"
    """What stands for a bin: its largest cell, or the mean."""

    def _levels(self, x: TensorType) -> Iterator[Pooling]:
        for bins in (2**level for level in range(self.pyramid_height)):
            kernel = tuple(-(-n // bins) for n in x.spatial)
            excess = (k * bins - n for k, n in zip(kernel, x.spatial, strict=True))
            pad = tuple((over + 1) // 2 for over in excess)
            if any(p >= k for p, k in zip(pad, kernel, strict=True)):
                raise ShapeError(
                    f"{bins}x{bins} bins are too many for {size(x.spatial)}: some would be empty",
                    field="pyramid_height",
                )
            yield Pooling.model_construct(
                pool=self.pool, kernel_size=kernel, stride=kernel, pad=pad
            )

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        x = image(bottoms)
        tops = [level.infer(bottoms)[0] for level in self._levels(x)]
        if len(tops) == 1:
            return (tops[0],)
        return checked(x.with_shape(x.batch, sum(top.numel // x.batch for top in tops)))

    def window(self, bottoms: Types) -> Window:
        (x,) = bottoms
        return Window(x.spatial, (1, 1), (0, 0), (1, 1))

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x,), op = bottoms, context.op
        pooled = [level.lower(context, bottoms, ())[0] for level in self._levels(x.type)]
        if len(pooled) == 1:
            return (pooled[0],)
        return (op.Concat(*(op.Reshape(y, op.ints(0, -1)) for y in pooled), axis=1),)
