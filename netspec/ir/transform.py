"""The transform of a data section: how stored images become what a net sees."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, model_validator

from netspec.ir.arithmetic import Arithmetic
from netspec.ir.augmentation import Augmentation
from netspec.ir.cutting import Cutting
from netspec.ir.fields import Flag, Says, many, whole
from netspec.ir.views import MAX_SCALE, Views, ViewsKind

ColourOrder: TypeAlias = Literal["BGR", "RGB"]
"""Which of red and blue comes first."""


MEAN = "transform#mean"
"""What the mean image is called among a data set's arrays; no blob has such a name."""

_Scale: TypeAlias = Annotated[
    int, BeforeValidator(whole(1, MAX_SCALE)), Says(f"whole number from 1 to {MAX_SCALE:,}")
]


class Transform(Arithmetic, Cutting, Augmentation):
    """`transform { … }`: pad, crop, mirror, then (x - mean) · scale / std, as Caffe has it.

    In training colours change before all this, and a square is cut out after it. Each number is
    drawn for each image; all that moves pixels is one resampling, of which labels that are images
    take the nearest.
    """

    force_color: Flag = False
    """Decode the images of an LMDB to three channels, whatever they are."""
    force_gray: Flag = False
    """Decode the images of an LMDB to one channel."""
    channel_order: ColourOrder | None = None
    """How images are decoded; unless set, BGR from Caffe's sources (LMDB, lists), else RGB."""
    views: ViewsKind = "CENTRE"
    """What `test` and `predict` see of an image, their probabilities averaged; in TEST alone.

    FLIP is the centre and its mirror image, FIVE_CROP the corners and the centre, TEN_CROP these
    flipped, too (Krizhevsky et al. 2012).
    """
    scales: Annotated[tuple[_Scale, ...], BeforeValidator(many)] = ()
    """What the shorter side of an image is resized to, once for each, before views are cut; in
    TEST alone, averaged like views (Simonyan and Zisserman 2015)."""

    @property
    def seen(self) -> Views:
        """The views of `test` and `predict`."""
        return Views(self.views, self.scales)

    def sized(self, views: Views) -> Views:
        """Views of images that a `resize` brings to a size, where they name none."""
        if views.plain or views.scales or not self.resize:
            return views
        return Views(views.kind, (self.shorter,))

    @model_validator(mode="after")
    def _one_of_two(self) -> Transform:
        for one, other in (
            ("mean_file", "pad"),
            ("mean_file", "fill"),
            ("resize", "pad"),
            ("force_color", "force_gray"),
        ):
            if getattr(self, one) and getattr(self, other):
                raise ValueError(f"takes {one} or {other}, not both")
        if self.mean == "IMAGE" and self.pad:
            raise ValueError("takes mean: IMAGE or pad, not both")
        if self.resize and not self.crop_size:
            raise ValueError("resize leaves images of any size: it takes a crop_size")
        if self.resize and self.resize[0] < self.crop_size:
            raise ValueError(f"crop_size {self.crop_size} is more than resize {self.resize[0]} has")
        return self
