"""The options of views at test time."""

from __future__ import annotations

import click

from netspec.diagnostics import UsageError
from netspec.ir.views import MAX_SCALE, Views, ViewsKind

_KINDS: dict[str, ViewsKind] = {
    "centre": "CENTRE",
    "flip": "FLIP",
    "5-crop": "FIVE_CROP",
    "10-crop": "TEN_CROP",
}

VIEWS = click.option(
    "--views",
    type=click.Choice(list(_KINDS)),
    help="Average over views of each image: the corners and the centre, flipped or not.  "
    "[default: the test section's `views`]",
)
SCALES = click.option(
    "--scales",
    metavar="SIZES",
    help="Average over sizes of each image: the shorter side, such as 256,288,320.  "
    "[default: the test section's `scales`]",
)


def chosen(views: str | None, scales: str | None, own: Views) -> Views:
    """What the options ask for, else what a net says itself."""
    kind = own.kind if views is None else _KINDS[views]
    return Views(kind, own.scales if scales is None else _sizes(scales))


def _sizes(text: str) -> tuple[int, ...]:
    words = text.split(",")
    if not all(word.strip().isdecimal() and 1 <= int(word) <= MAX_SCALE for word in words):
        raise UsageError(
            f"--scales takes whole numbers from 1 to {MAX_SCALE:,} with commas between them, "
            f"not `{text}`"
        )
    return tuple(int(word) for word in words)
