"""What a transform makes of the outline of images: cells around them, a cut, a flip."""

from __future__ import annotations

from netspec.ir.fields import Fields, Flag, NonNegative


class Cutting(Fields):
    """The fields of a transform that say which cells of an image are seen, as Caffe has them."""

    pad: NonNegative = 0
    """Cells added to each side of each spatial axis, of value 0 unless `border` or `fill` say
    otherwise, before it is cut."""
    crop_size: NonNegative = 0
    """Height and width of what is cut out: anywhere in TRAIN, of the middle in TEST; 0: no cut."""
    mirror: Flag = False
    """Whether every other image, drawn by lot, is flipped left to right; in TEST too, as in Caffe.

    Never in a compiled model.
    """
