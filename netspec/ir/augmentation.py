"""What a transform draws anew for every training image: geometry, colour, a square cut out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self, TypeAlias

from pydantic import model_validator

from netspec.ir.fields import Fields, Flag, Int, NonNegative, Reals
from netspec.ir.ranges import (
    NOTHING,
    SAME,
    Bend,
    Degrees,
    Factor,
    Jitter,
    Lean,
    Pixels,
    Sizes,
    Turn,
)

Border: TypeAlias = Literal["CONSTANT", "REFLECT", "EDGE"]
"""What lies outside of an image: a value, the image mirrored at its outermost cells, or these."""

_MOVES = ("rotation", "translation", "zoom", "shear", "stretch", "distortion", "flip_vertical")
_COLOURS = ("brightness", "contrast", "saturation", "hue")
_DRAWN = (*_MOVES, *_COLOURS, "cutout")

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # With every rotation as likely, a vertical flip is as good as a horizontal one, and `mirror`
    # would flip in phase TEST, too.
    "PLANKTON": {
        "rotation": (0, 360), "translation": 10, "zoom": 1.6, "shear": 20, "stretch": 1.3,
        "flip_vertical": True,
    },
}  # fmt: skip


class Augmentation(Fields):
    """The fields of a transform that are for training, and what an image's outside is.

    Each number is drawn for each image, evenly from its range unless said otherwise. All that moves
    pixels is one bilinear resampling: resize, zoom and stretch, shear, rotation and translation
    about the image's middle, then pad, crop and flips. In phase TEST, and in a compiled model,
    nothing of it happens but `resize`.
    """

    preset: Literal["PLANKTON"] | None = None
    """Ranges for fields that are not given. PLANKTON, of images without an up or down (Dieleman et
    al. 2015): rotation: [0, 360], translation: 10, zoom: 1.6, shear: 20, stretch: 1.3, and flips.
    """
    rotation: Degrees = NOTHING
    """Degrees, counter-clockwise: a is [-a, a]; [0, 360] is any direction."""
    translation: Pixels = NOTHING
    """Pixels, drawn for each axis: a is [-a, a]."""
    zoom: Factor = SAME
    """Factor of both axes, its logarithm drawn evenly: 1.6 is [1/1.6, 1.6]."""
    stretch: Factor = SAME
    """Multiplies the width and divides the height, its logarithm drawn evenly: s is [1/s, s]."""
    shear: Lean = NOTHING
    """Degrees by which the vertical axis leans: a is [-a, a]."""
    distortion: Bend = NOTHING
    """The lens: what is at r comes from r · (1 + k · r²), where r is 1 at the nearest edge; k above
    0 is a barrel, below 0 a cushion; from -1/6 on down a square's corners would fold back."""
    flip_vertical: Flag = False
    """Whether every other image, drawn by lot, is flipped top to bottom."""
    resize: Sizes | None = None
    """Pixels of the shorter side that images are brought to before they are cut: one number, or a
    range from which it is drawn ([256, 480] for ResNet; He et al. 2016). TEST takes its middle
    (VGG; Simonyan & Zisserman 2015). Without smoothing: keep images below twice the size."""
    border: Border = "CONSTANT"
    """What lies outside of the image, for `pad`, too."""
    fill: Reals = ()
    """The value outside, or one per channel, in the units of the source; unless set, 0."""
    fill_label: Int | None = None
    """The label outside, where labels are images: unless set, the loss's ignore_label, else 0."""
    brightness: Jitter = SAME
    """Factor of all values, as torchvision's ColorJitter has it: j is [max(0, 1 - j), 1 + j].

    Colours are those of bytes, 0 to 255, cut off there, and changed in the order of these fields,
    before anything else happens to the image.
    """
    contrast: Jitter = SAME
    """Factor of the distance from the image's mean brightness; for 1 or 3 channels."""
    saturation: Jitter = SAME
    """Factor of the distance from the pixel's grey; for 3 channels."""
    hue: Turn = NOTHING
    """Added to the hue, in turns: a is [-a, a], 0.5 at most; for 3 channels."""
    cutout: NonNegative = 0
    """Side of a square about any pixel that becomes 0, the values being normalised (DeVries &
    Taylor 2017); what of it is outside of the image is lost."""

    @model_validator(mode="before")
    @classmethod
    def _take_preset(cls, given: Any) -> Any:
        """The preset's ranges become fields, so that a spec printed in full shows them."""
        named = given.get("preset") if isinstance(given, dict) else None
        if not isinstance(named, str) or named not in PRESETS:
            return given
        rest = {name: value for name, value in given.items() if name != "preset"}
        return {**PRESETS[named], **rest}

    @model_validator(mode="after")
    def _outside(self) -> Augmentation:
        if self.fill and self.border != "CONSTANT":
            raise ValueError(f"takes fill or border {self.border}, not both")
        return self

    @property
    def moves(self) -> bool:
        """Whether training moves pixels in other ways than crops and flips left to right."""
        return any(map(self.draws, _MOVES))

    @property
    def moved(self) -> bool:
        """Whether training samples images between their pixels."""
        return self.moves or bool(self.resize)

    @property
    def coloured(self) -> tuple[str, ...]:
        """The fields of colour that do something."""
        return tuple(filter(self.draws, _COLOURS))

    @property
    def augments(self) -> tuple[str, ...]:
        """All fields that do something."""
        return tuple(filter(self.draws, ("resize", *_DRAWN)))

    def draws(self, name: str) -> bool:
        """Whether a field differs from what does nothing."""
        return bool(getattr(self, name) != type(self).model_fields[name].default)

    @property
    def shorter(self) -> int:
        """What TEST's images have for their shorter side, where there is a `resize`."""
        assert self.resize
        return sum(self.resize) // 2

    @property
    def tested(self) -> Self:
        """What of it holds in phase TEST, too."""
        fields = type(self).model_fields
        return self.model_copy(update={name: fields[name].default for name in _DRAWN})
