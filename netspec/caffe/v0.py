"""Caffe's form of 2013 to that of 2014, V0 to V1 (UpgradeV0Net in util/upgrade_proto.cpp).

layers { layer { name: "conv1" type: "conv" num_output: 96 kernelsize: 11 } bottom: "data" }
layers { name: "conv1" type: CONVOLUTION
         convolution_param { num_output: 96 kernel_size: 11 } bottom: "data" }
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from netspec.caffe.faults import Faults
from netspec.caffe.message import (
    Items,
    body,
    commented,
    key,
    new_element,
    renamed,
    spread,
    text,
)
from netspec.caffe.padding import fold_padding, v0_type
from netspec.diagnostics import Span, SpecError, suggest
from netspec.grammar.ast import Element, Field, Item, Message, Reference

TYPES: Final[Mapping[str, str]] = {
    "accuracy": "ACCURACY",
    "bnll": "BNLL",
    "concat": "CONCAT",
    "conv": "CONVOLUTION",
    "data": "DATA",
    "dropout": "DROPOUT",
    "euclidean_loss": "EUCLIDEAN_LOSS",
    "flatten": "FLATTEN",
    "hdf5_data": "HDF5_DATA",
    "hdf5_output": "HDF5_OUTPUT",
    "im2col": "IM2COL",
    "images": "IMAGE_DATA",
    "infogain_loss": "INFOGAIN_LOSS",
    "innerproduct": "INNER_PRODUCT",
    "lrn": "LRN",
    "multinomial_logistic_loss": "MULTINOMIAL_LOGISTIC_LOSS",
    "pool": "POOLING",
    "relu": "RELU",
    "sigmoid": "SIGMOID",
    "softmax": "SOFTMAX",
    "softmax_loss": "SOFTMAX_LOSS",
    "split": "SPLIT",
    "tanh": "TANH",
    "window_data": "WINDOW_DATA",
}
"""V0's type of a layer → V1's."""

_CONV: Final = {"conv": "convolution_param"}
_WEIGHTED: Final = {**_CONV, "innerproduct": "inner_product_param"}
_WINDOWED: Final = {**_CONV, "pool": "pooling_param"}
_LRN: Final = {"lrn": "lrn_param"}
_IMAGES: Final = {"images": "image_data_param"}
_WINDOWS: Final = {"window_data": "window_data_param"}
_RECORDS: Final = {"data": "data_param", **_IMAGES}
_BATCHES: Final = {**_RECORDS, **_WINDOWS, "hdf5_data": "hdf5_data_param"}

BLOCKS: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "num_output": ("num_output", _WEIGHTED),
    "biasterm": ("bias_term", _WEIGHTED),
    "weight_filler": ("weight_filler", _WEIGHTED),
    "bias_filler": ("bias_filler", _WEIGHTED),
    "pad": ("pad", _WINDOWED),
    "kernelsize": ("kernel_size", _WINDOWED),
    "stride": ("stride", _WINDOWED),
    "group": ("group", _CONV),
    "pool": ("pool", {"pool": "pooling_param"}),
    "dropout_ratio": ("dropout_ratio", {"dropout": "dropout_param"}),
    "local_size": ("local_size", _LRN),
    "alpha": ("alpha", _LRN),
    "beta": ("beta", _LRN),
    "k": ("k", _LRN),
    "source": ("source", {**_BATCHES, "infogain_loss": "infogain_loss_param"}),
    "batchsize": ("batch_size", _BATCHES),
    "rand_skip": ("rand_skip", _RECORDS),
    "shuffle_images": ("shuffle", _IMAGES),
    "new_height": ("new_height", _IMAGES),
    "new_width": ("new_width", _IMAGES),
    "concat_dim": ("concat_dim", {"concat": "concat_param"}),
    "det_fg_threshold": ("fg_threshold", _WINDOWS),
    "det_bg_threshold": ("bg_threshold", _WINDOWS),
    "det_fg_fraction": ("fg_fraction", _WINDOWS),
    "det_context_pad": ("context_pad", _WINDOWS),
    "det_crop_mode": ("crop_mode", _WINDOWS),
}
"""A field of V0 → its name in V1, and the block that takes it, by V0's type of the layer."""

TRANSFORM: Final[Mapping[str, str]] = {
    "scale": "scale",
    "meanfile": "mean_file",
    "cropsize": "crop_size",
    "mirror": "mirror",
}
"""A field of V0 → its name in V1's `transform_param`, whatever the layer's type."""

_SAME: Final = {"name", "blobs", "blobs_lr", "weight_decay"}
_NET_FIELDS: Final = {"name", "layers", "input", "input_dim", "force_backward"}


def is_v0(item: Item) -> bool:
    """Whether an item of a net is a layer in V0's form."""
    if not isinstance(item, Element) or item.word != "layers":
        return False
    return any(key(inner) == "layer" for inner in body(item).items)


def to_v1(items: Iterable[Item], faults: Faults) -> Items:
    """The items of a net of V0 layers, in V1's form."""
    kept: list[Item] = []
    for item in fold_padding(tuple(items), faults):
        if is_v0(item) and isinstance(item, Element):
            kept.extend(_layer(item, faults))
        elif key(item) in _NET_FIELDS or key(item) == "layer":
            _refuse_mixed(item, faults)
            kept.append(item)
        else:
            _warn_dropped(item, "a net of V0 layers", faults)
    return tuple(kept)


def _layer(layer: Element, faults: Faults) -> list[Element]:
    """One layer in V1's form; none if its type is unknown."""
    kind, span = v0_type(layer)
    if kind not in TYPES:
        faults.error(_unknown_type(kind, span))
        return []
    new: list[Item] = []
    tail: tuple[str, ...] = ()
    for item in spread(body(layer).items):
        if key(item) == "layer" and isinstance(item, Element):
            new += _lifted(item, _fields(body(item), kind, faults))
            tail += body(item).tail
        elif key(item) in {"bottom", "top"}:
            new.append(item)
        else:
            _warn_dropped(item, "a V0 layer", faults)
    around = body(layer)
    return [replace(layer, body=replace(around, items=tuple(new), tail=tail + around.tail))]


def _lifted(inner: Element, fields: list[Item]) -> list[Item]:
    """The fields with the comments above them that stood around the brace of `layer {`."""
    head = body(inner).head
    above = (*inner.comments.before, *([] if head is None else [head]))
    return [commented(field, above if at == 0 else ()) for at, field in enumerate(fields)]


def _unknown_type(kind: str, span: Span) -> SpecError:
    if not kind:
        return SpecError("a layer has no `type`", span, code="field")
    message = f"there is no V0 layer type `{kind}`{suggest(kind, TYPES)}"
    return SpecError(message, span, code="value")


def _fields(fields: Message, kind: str, faults: Faults) -> list[Item]:
    """What stands in V0's `layer { … }`, in V1's blocks, each where its first field stood."""
    blocks: dict[str, list[Item]] = {}
    order: list[Item | str] = []
    for item in fields.items:
        name = key(item)
        if name in _SAME or (name, kind) == ("hdf5_output_param", "hdf5_output"):
            order.append(item)
        elif name == "type":
            order.append(_v1_type(item, kind))
        elif place := _place(name, kind):
            block, new_name = place
            if block not in blocks:
                order.append(block)
            blocks.setdefault(block, []).append(renamed(item, new_name))
        else:
            _warn_dropped(item, f"a V0 layer of type `{kind}`", faults)
    return [_block(one, blocks[one]) if isinstance(one, str) else one for one in order]


def _place(name: str, kind: str) -> tuple[str, str] | None:
    """The block of V1 that takes a field of a V0 layer, and the field's name there."""
    if name in TRANSFORM:
        return "transform_param", TRANSFORM[name]
    new_name, blocks = BLOCKS.get(name, ("", {}))
    return (blocks[kind], new_name) if kind in blocks else None


def _v1_type(item: Item, kind: str) -> Item:
    if isinstance(item, Field) and text(item.value) is not None:
        return replace(item, value=Reference((TYPES[kind],), item.value.span))
    return item


def _block(name: str, items: list[Item]) -> Element:
    return new_element(name, items, items[0].span)


def _refuse_mixed(item: Item, faults: Faults) -> None:
    if key(item) == "layers" and isinstance(item, Element):
        message = "a net of V0 layers has one in the V1 form, without `layer { … }`"
        faults.refuse(SpecError(message, item.word_span, code="field"))


def _warn_dropped(item: Item, owner: str, faults: Faults) -> None:
    message = f"Caffe passes over `{key(item) or 'this'}` in {owner}"
    faults.warn(SpecError(message, item.span, code="field"))
