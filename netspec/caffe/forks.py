"""Where the words of Caffe's forks for a layer differ from ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from netspec.caffe.message import key
from netspec.caffe.parts import CaffeLayer, first
from netspec.grammar import making
from netspec.grammar.ast import Element, Field

_SEGNET: Final = frozenset({"scale_filler", "shift_filler", "bn_mode"})
"""What SegNet's BN may say, which keeps no running values."""
_RUNNING: Final = frozenset({"slope_filler", "momentum", "eps", "var_eps", "frozen"})
"""What PSPNet's may say, and its forerunners, which keep them."""
_LEARNED: Final = 2
"""BN's blobs that are learned, slope and bias; the others are statistics."""


def normalize(items: Sequence[Field | Element], layer: CaffeLayer) -> Sequence[Field | Element]:
    """SSD's learns a scale, one for all channels and over the whole image unless it says otherwise.

    Without a `norm_param` it is another fork's, which learns nothing.
    """
    if not any(key(item) == "norm_param" for item in layer.items):
        return items
    said = {key(item) for item in items}
    true = making.word("true", layer.span)
    usual = ("scale", "across_spatial", "channel_shared")
    return [*(making.field(word, true, layer.span) for word in usual if word not in said), *items]


def bn(items: Sequence[Field | Element], layer: CaffeLayer) -> Sequence[Field | Element]:
    """SegNet's, of two blobs, has a `bn_mode`, and an eps of 1e-9; PSPNet's, of four, has none."""
    if not _is_segnets(layer):
        return [item for item in items if key(item) != "bn_mode"]
    mode = "INFERENCE" if first(tuple(items), "bn_mode") == "INFERENCE" else "LEARN"
    eps = making.field("eps", making.number(1e-9, layer.span), layer.span)
    return [
        making.field("bn_mode", making.word(mode, layer.span), layer.span),
        *([eps] if mode == "LEARN" else []),
        *(item for item in items if key(item) not in ("bn_mode", "eps")),
    ]


def _is_segnets(layer: CaffeLayer) -> bool:
    said = {key(item) for item in layer.block("bn_param")}
    params = [item for item in layer.items if key(item) == "param"]
    return bool(said & _SEGNET) and not said & _RUNNING and len(params) <= _LEARNED


def bn_params(params: Sequence[Field | Element], layer: CaffeLayer) -> Sequence[Field | Element]:
    """Those of slope and bias, which a frozen one leaves as they are."""
    if first(layer.block("bn_param"), "frozen") is not True:
        return params[:_LEARNED]
    zero = making.number(0, layer.span)
    still = making.message("param", [making.field("lr_mult", zero, layer.span)], layer.span)
    return [replace(still) for _ in range(_LEARNED)]
