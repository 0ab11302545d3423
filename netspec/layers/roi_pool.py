"""ROI pooling: regions of an image, each in a grid of as many cells."""

from __future__ import annotations

from typing import ClassVar

from netspec.ir.fields import Positive, PositiveReal
from netspec.ir.graph import Value
from netspec.ir.layer import CaffeType, Context, Layer, ShapeError, Types, Values, image
from netspec.ir.phrases import reshape_samples
from netspec.ir.regions import regions
from netspec.ir.types import TensorType


class ROIPooling(Layer):
    """y[r, c, i, j] = max of the cells of bin (i, j) of region r, or 0 if it has none.

    Regions, the second bottom, are rows of [image, x1, y1, x2, y2], the corners inside. Times
    `spatial_scale` and rounded, they are divided into pooled_h x pooled_w bins that may overlap by
    a cell (Fast R-CNN, Girshick 2015, arXiv:1504.08083; `roi_pooling_layer.cpp` of its fork of
    Caffe). The first axis of the top is that of the regions. It runs in TEST on the CPU:
    onnxruntime has neither its gradient nor a kernel for CUDA.
    """

    keyword: ClassVar = "roi_pool"
    caffe: ClassVar = CaffeType("ROIPooling", "roi_pooling_param")
    bottoms: ClassVar = range(2, 3)
    example: ClassVar = """
        input "data" { shape: 4x16x16 }
        input "rois" { shape: 5 }
        roi_pool { bottom: "data"  bottom: "rois"  pooled_h: 3  pooled_w: 3  spatial_scale: 1/16 }
        fc { num_output: 10 }
    """

    pooled_h: Positive
    """Rows of bins."""
    pooled_w: Positive
    """Columns of bins."""
    spatial_scale: PositiveReal = 1.0
    """What the corners are multiplied by: cells of the bottom per cell of the image."""

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        x, rois = image(bottoms[:1]), bottoms[1]
        return regions(x, rois, x.channels, self.pooled_h, self.pooled_w)

    def traceable(self, bottoms: Types) -> bool:
        return False

    def lower(self, context: Context, bottoms: Values, weights: Values) -> tuple[Value, ...]:
        (x, rois), op = bottoms, context.op
        if context.training:
            raise ShapeError("has no gradient, and runs in phase TEST only")
        pooled = op.MaxRoiPool(
            x,
            reshape_samples(op, rois, 5),
            pooled_shape=(self.pooled_h, self.pooled_w),
            spatial_scale=self.spatial_scale,
        )
        return (pooled,)
