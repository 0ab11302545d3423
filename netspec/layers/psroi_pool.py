"""Position-sensitive ROI pooling: each bin of a region has channels of its own."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.fields import Positive, PositiveReal
from netspec.ir.layer import CaffeType, Layer, ShapeError, Types, numbers
from netspec.ir.regions import regions
from netspec.ir.types import TensorType


class PSROIPooling(Layer):
    """y[r, d, i, j] = mean of the cells of bin (i, j) of region r in channel (d·g + i)·g + j.

    Regions are those of `roi_pool`, in g x g bins (R-FCN, Dai et al. 2016, arXiv:1605.06409;
    `psroi_pooling_layer.cpp` of its fork of Caffe).
    """

    keyword: ClassVar = "psroi_pool"
    caffe: ClassVar = CaffeType("PSROIPooling", "psroi_pooling_param")
    bottoms: ClassVar = range(2, 3)
    example: ClassVar = """
        input "data" { shape: 18x16x16 }
        input "rois" { shape: 5 }
        psroi_pool { bottom: "data"  bottom: "rois"  output_dim: 2  group_size: 3 }
    """

    output_dim: Positive
    """Channels of the top, d."""
    group_size: Positive
    """Bins on each side, g."""
    spatial_scale: PositiveReal = 1.0
    """What the corners are multiplied by: cells of the bottom per cell of the image."""

    @property
    def obstacle(self) -> str:
        return "pools by position, for which ONNX has no operator"

    def traceable(self, bottoms: Types) -> bool:
        return False

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        x, rois = numbers(bottoms)
        tops = regions(x, rois, self.output_dim, self.group_size, self.group_size)
        wanted = self.output_dim * self.group_size**2
        if x.channels != wanted:
            raise ShapeError(
                f"output_dim {self.output_dim} in {self.group_size}x{self.group_size} bins takes "
                f"{wanted} channels, not {x.channels}",
                field="output_dim",
            )
        return tops
