"""Detection output: the boxes that a detector has found."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator

from netspec.ir.fields import (
    Fields,
    Flag,
    Int,
    NonNegativeReal,
    Positive,
    PositiveReal,
    Real,
    whole,
)
from netspec.ir.layer import CaffeType, Layer, ShapeError, Types, checked, numbers
from netspec.ir.types import TensorType, size

_OrAll = Annotated[int, BeforeValidator(whole(-1))]


class Suppression(Fields):
    """`nms_param { … }`: which boxes make others superfluous."""

    nms_threshold: NonNegativeReal = 0.3
    """A box falls that shares more than this of its union with a better one of its class."""
    top_k: _OrAll = -1
    """How many boxes of a class are compared, the best ones; -1 is all."""
    eta: PositiveReal = 1.0
    """What the threshold is multiplied by after each box that is kept, down to 0.5."""


class DetectionOutput(Layer):
    """Rows of [image, class, confidence, x1, y1, x2, y2], as 1 x 1 x rows x 7.

    The bottoms are the offsets of boxes, 4 for each prior, the confidences, one for each prior and
    class, and the priors of `prior_box` (SSD, Liu et al. 2016, arXiv:1512.02325;
    `detection_output_layer.cpp` of its fork of Caffe). How many rows there are depends on the
    data: `keep_top_k` for each image are counted, one if that is not given, and it never runs.
    """

    keyword: ClassVar = "detection_output"
    caffe: ClassVar = CaffeType("DetectionOutput", "detection_output_param")
    bottoms: ClassVar = range(3, 4)
    example: ClassVar = """
        input "data" { shape: 3x32x32 }
        conv "map" { num_output: 8  kernel_size: 4  stride: 4 }
        prior_box "priors" { bottom: "map"  bottom: "data"  min_size: 8 }
        fc "offsets" { bottom: "map"  num_output: 256 }
        fc "confidences" { bottom: "map"  num_output: 192 }
        detection_output {
          bottom: "offsets"  bottom: "confidences"  bottom: "priors"  num_classes: 3  keep_top_k: 50
        }
    """

    num_classes: Positive
    """Classes that each prior has a confidence for, the background among them."""
    share_location: Flag = True
    """Whether a prior has the same offsets for all classes."""
    background_label_id: Int = 0
    """The class that is never put out; -1 is none."""
    nms_param: Suppression = Suppression()
    """Which boxes make others superfluous."""
    code_type: Literal["CORNER", "CENTER_SIZE", "CORNER_SIZE"] = "CORNER"
    """What the offsets are of: of corners, of centre and size, or of corners in sizes."""
    variance_encoded_in_target: Flag = False
    """Whether the offsets are not yet to be multiplied by the variances of the priors."""
    keep_top_k: _OrAll = -1
    """How many boxes of an image are put out, the best ones; -1 is all."""
    confidence_threshold: Real | None = None
    """What the confidence of a box must be above."""

    @property
    def obstacle(self) -> str:
        return "puts out a number of boxes that depends on the data"

    def traceable(self, bottoms: Types) -> bool:
        return False

    def infer(self, bottoms: Types) -> tuple[TensorType, ...]:
        offsets, confidences, priors = numbers(bottoms)
        if len(priors.shape) != 3 or priors.shape[:2] != (1, 2) or priors.shape[2] % 4:
            raise ShapeError(f"priors are 1 x 2 x 4 for each of them, not {size(priors.shape)}")
        count, classes = priors.shape[2] // 4, self.num_classes
        for name, x, each in (
            ("offsets", offsets, 4 * (1 if self.share_location else classes)),
            ("confidences", confidences, classes),
        ):
            given = x.numel // x.batch if x.shape else 1
            if given != count * each:
                raise ShapeError(
                    f"{count} priors take {count * each} {name}, {each} each, not {given}"
                )
        if offsets.batch != confidences.batch:
            raise ShapeError(f"offsets of {offsets.batch} images, and {confidences.batch} images'")
        return checked(offsets.with_shape(1, 1, offsets.batch * max(self.keep_top_k, 1), 7))
