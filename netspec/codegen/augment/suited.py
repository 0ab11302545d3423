"""Whether a transform and what it is for go together."""

from __future__ import annotations

from netspec.codegen.augment.colour import CHANNELS
from netspec.diagnostics import UsageError
from netspec.ir.graph import Value
from netspec.ir.transform import Transform
from netspec.ir.types import size


def check_suited(transform: Transform, name: str, x: Value, *, images: bool) -> None:
    """Raise UsageError unless the input `x` called `name` can be transformed.

    `images` says whether something takes rows and columns.
    """
    if len(x.type.shape) != 4 and (images or transform.cutout):
        what = ", ".join(transform.augments) or "crop_size, mirror and mean_file"
        raise UsageError(f"transform: {what} are for images, and `{name}` is not")
    for kind in transform.coloured:
        _check_colour(kind, name, x)
    check_count("fill", len(transform.fill) or 1, name, x)
    pad = transform.pad
    if pad and transform.border == "REFLECT" and pad >= min(x.type.spatial):
        raise UsageError(
            f"transform: border REFLECT takes a pad below the images' size, not {pad} for "
            f"`{name}` of {size(x.type.spatial)}"
        )


def check_count(field_name: str, count: int, name: str, x: Value) -> None:
    """Raise UsageError unless there is one value, or one for each channel."""
    if count not in (1, x.type.channels):
        raise UsageError(
            f"transform: {field_name} has {count} values, but {name} has {x.type.channels} channels"
        )


def _check_colour(kind: str, name: str, x: Value) -> None:
    wanted = CHANNELS[kind]
    if len(x.type.shape) != 4 or (wanted and x.type.channels not in wanted):
        channels = f" of {' or '.join(map(str, wanted))} channels" if wanted else ""
        found = size(x.type.sample) if x.type.sample else "a number"
        raise UsageError(f"transform: {kind} is for images{channels}, and `{name}` is {found}")
    if x.type.dtype != "uint8":
        raise UsageError(
            f"transform: {kind} is for images stored as bytes, from 0 to 255, and `{name}` is "
            f"stored as {x.type.dtype}"
        )
