"""Brightness, contrast, saturation and hue of bytes, as torchvision's ColorJitter means them."""

from __future__ import annotations

import numpy as np

from netspec.codegen.augment.lots import Lots
from netspec.codegen.builder import Builder
from netspec.ir.graph import Value
from netspec.ir.phrases import cast_to, reshape
from netspec.ir.ranges import NOTHING, SAME
from netspec.ir.transform import ColourOrder, Transform

_LUMA = (0.2989, 0.587, 0.114)
"""Red, green and blue in grey: ITU-R BT.601, to torchvision's digits."""

CHANNELS = {"brightness": (), "contrast": (1, 3), "saturation": (3,), "hue": (3,)}
"""How many channels each is for; brightness is for any."""


def coloured(op: Builder, transform: Transform, lots: Lots, x: Value, order: ColourOrder) -> Value:
    """The images `x`, N x C x H x W from 0 to 255, each in colours of its own, cut off there."""
    batch = x.type.batch

    def factor(kind: str) -> Value:
        drawn = lots.between(kind, getattr(transform, kind), batch)
        return reshape(op, op.Expand(drawn, op.ints(batch, 1)), batch, 1, 1, 1)

    if transform.brightness != SAME:
        x = _bytes(op, op.Mul(x, factor("brightness")))
    if transform.contrast != SAME:
        mean = op.ReduceMean(_grey(op, x, order), op.ints(1, 2, 3), keepdims=1)
        x = _blended(op, x, mean, factor("contrast"))
    if transform.saturation != SAME:
        x = _blended(op, x, _grey(op, x, order), factor("saturation"))
    if transform.hue != NOTHING:
        x = _turned(op, x, factor("hue"), order)
    return x


def _bytes(op: Builder, x: Value) -> Value:
    cut: Value = op.Clip(x, op.scalar(0), op.scalar(255))
    return cut


def _blended(op: Builder, x: Value, other: Value, factor: Value) -> Value:
    """other + factor · (x - other)."""
    return _bytes(op, op.Add(op.Mul(op.Sub(x, other), factor), other))


def _grey(op: Builder, x: Value, order: ColourOrder) -> Value:
    """N x 1 x H x W; grey itself if there is one channel."""
    if x.type.channels == 1:
        return x
    weights = np.array(_LUMA if order == "RGB" else _LUMA[::-1], np.float32)
    parts = op.Split(x, op.ints(1, 1, 1), outputs=3, axis=1)
    red, green, blue = (
        op.Mul(part, op.scalar(weight)) for part, weight in zip(parts, weights, strict=True)
    )
    grey: Value = op.Add(op.Add(red, green), blue)
    return grey


def _turned(op: Builder, x: Value, turn: Value, order: ColourOrder) -> Value:
    """The hue, from 0 to 6 around the circle, plus 6 · turn, value and chroma as they are.

    A channel is value - chroma · max(0, min(k, 4 - k, 1)), where k is the hue plus 5 for red, 3 for
    green, 1 for blue, modulo 6 (the alternative formula of HSV to RGB).
    """
    parts = op.Split(x, op.ints(1, 1, 1), outputs=3, axis=1)
    red, green, blue = parts if order == "RGB" else parts[::-1]
    value = op.Max(red, green, blue)
    chroma = op.Sub(value, op.Min(red, green, blue))
    hue = op.Add(_hue(op, (red, green, blue), value, chroma), op.Mul(turn, op.scalar(6)))
    made = []
    for onward in (5, 3, 1):
        k = op.Add(hue, op.scalar(onward))
        k = op.Sub(k, op.Mul(op.Floor(op.Mul(k, op.scalar(1 / 6))), op.scalar(6)))
        share = op.Clip(op.Min(k, op.Sub(op.scalar(4), k)), op.scalar(0), op.scalar(1))
        made.append(op.Sub(value, op.Mul(chroma, share)))
    turned: Value = op.Concat(*(made if order == "RGB" else made[::-1]), axis=1)
    return turned


def _hue(op: Builder, channels: tuple[Value, Value, Value], value: Value, chroma: Value) -> Value:
    """(g - b) / c where red is the largest, else 2 + (b - r) / c for green, 4 + (r - g) / c for
    blue; 0 for a grey."""
    red, green, blue = channels
    grey = op.Equal(chroma, op.scalar(0))
    divisor = op.Add(chroma, cast_to(op, grey, "float32"))

    def sector(one: Value, other: Value, start: float) -> Value:
        along: Value = op.Add(op.Div(op.Sub(one, other), divisor), op.scalar(start))
        return along

    later = op.Where(op.Equal(value, green), sector(blue, red, 2), sector(red, green, 4))
    hue: Value = op.Where(op.Equal(value, red), sector(green, blue, 0), later)
    return hue
