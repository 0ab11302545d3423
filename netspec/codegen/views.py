"""Views of stored images as operators: resized, padded, cut at fixed places, flipped."""

from __future__ import annotations

from collections.abc import Sequence

from netspec.codegen.augment.sampling import framed, resized
from netspec.codegen.builder import Builder
from netspec.ir.graph import Value
from netspec.ir.phrases import cast_to
from netspec.ir.transform import Transform
from netspec.ir.types import Shape
from netspec.ir.views import View, Views


def viewed(
    op: Builder, x: Value, views: Views, window: Shape, transform: Transform, mean: Value | None
) -> Value:
    """All views of the images `x`, one view after the other on the batch axis.

    N x C x H x W → views·N x C x window. Images less the `mean` are resized bilinearly with
    half-pixel centres (PyTorch's `interpolate`, `align_corners=False`), then padded.
    """
    if mean is not None or views.scales:
        x = _float(op, x)
    if mean is not None:
        x = op.Sub(x, mean)
    canvases: dict[tuple[int, int], Value] = {}
    seen = []
    for view in views:
        extent = view.resized(x.type.spatial)
        if extent not in canvases:
            canvases[extent] = _canvas(op, x, extent, transform)
        seen.append(_cut(op, canvases[extent], view, window))
    joined: Value = op.Concat(*seen, axis=0) if len(seen) > 1 else seen[0]
    return joined


def repeated(op: Builder, x: Value, times: int) -> Value:
    """What is no image, for each view alike."""
    joined: Value = op.Concat(*[x] * times, axis=0) if times > 1 else x
    return joined


def averaged(op: Builder, x: Value, views: int) -> Value:
    """The mean of every sample's views."""
    apart = op.Reshape(x, op.ints(views, x.type.batch // views, *x.type.sample))
    mean: Value = op.ReduceMean(apart, op.ints(0), keepdims=0)
    return mean


def _canvas(op: Builder, x: Value, extent: Sequence[int], transform: Transform) -> Value:
    """The images at one size."""
    if tuple(extent) != tuple(x.type.spatial):
        x = resized(op, x, tuple(extent))
    if transform.pad:
        around = (transform.pad, transform.pad)
        x = framed(op, _float(op, x), around, transform.border, transform.fill)
    return x


def _cut(op: Builder, x: Value, view: View, window: Shape) -> Value:
    """One window of every image."""
    corner = view.corner(x.type.spatial, window)
    if tuple(window) != tuple(x.type.spatial):
        ends = op.ints(*(n + m for n, m in zip(corner, window, strict=True)))
        x = op.Slice(x, op.ints(*corner), ends, op.ints(2, 3))
    if view.flip:
        last = x.type.shape[-1]
        x = op.Slice(x, op.ints(-1), op.ints(-last - 1), op.ints(3), op.ints(-1))
    return x


def _float(op: Builder, x: Value) -> Value:
    return x if x.type.dtype == "float32" else cast_to(op, x, "float32")
