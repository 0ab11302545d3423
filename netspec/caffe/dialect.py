"""Where Caffe's words for a layer differ from ours: what is renamed, left out, or always said."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from netspec.caffe import forks
from netspec.caffe.message import key
from netspec.caffe.parts import CaffeLayer, first, literal
from netspec.diagnostics import SpecError
from netspec.grammar import making
from netspec.grammar.ast import Element, Field

Items = Sequence[Field | Element]
Rewrite = Callable[[Items, CaffeLayer], Items]

UNSAID = frozenset({"engine", "force_nd_im2col", "stable_prod_grad", "debug_info"})
"""How Caffe computes, not what: left out of every layer."""


@dataclass(frozen=True)
class Dialect:
    """How one Caffe type says what a layer of ours says in other words."""

    blocks: tuple[str, ...] = ()
    """Blocks that hold its fields, beside its own."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    unsaid: frozenset[str] = frozenset()
    """Fields that mean nothing here."""
    rewrite: Rewrite = lambda items, _: items
    """Any other difference: from its fields, renamed, to ours."""
    params: Rewrite = lambda params, _: params
    """From its `param`s, one for each blob, to ours, one for each that is trained."""

    def items(self, layer: CaffeLayer, block: str | None) -> Items:
        """The fields of the layer in our words, in the order in which they are written."""
        names = tuple(dict.fromkeys((*((block,) if block else ()), *self.blocks)))
        found = [item for name in names for item in layer.block(name)]
        kept = [i for i in found if key(i) not in UNSAID | self.unsaid]
        return self.rewrite([self._named(item) for item in kept], layer)

    def _named(self, item: Field | Element) -> Field | Element:
        name = self.renamed.get(key(item))
        if name is None:
            return item
        return replace(item, key=name) if isinstance(item, Field) else replace(item, word=name)


def _batch_norm(items: Items, layer: CaffeLayer) -> Items:
    """Caffe's keeps sums that a scale factor divides, and only NVIDIA's may have an affine part."""
    said = any(key(item) == "moving_average_fraction" for item in items)
    affine = "true" if first(tuple(items), "scale_bias") is True else "false"
    items = [item for item in items if key(item) != "scale_bias"]
    fraction = making.number(0.999, layer.span)
    return [
        making.field("affine", making.word(affine, layer.span), layer.span),
        *([] if said else [making.field("moving_average_fraction", fraction, layer.span)]),
        *items,
    ]


def _pool(items: Items, _: CaffeLayer) -> Items:
    """`ceil_mode: false`, a word of forks, is `round_mode: FLOOR`."""
    kept: list[Field | Element] = []
    for item in items:
        if isinstance(item, Field) and item.key == "ceil_mode":
            if literal(item.value) is False:
                value = making.word("FLOOR", item.value.span)
                kept.append(replace(item, key="round_mode", value=value))
        else:
            kept.append(item)
    return kept


def _normalization(default: str) -> Rewrite:
    """The bool `normalize` of old files: true is VALID, false is BATCH_SIZE."""

    def rewrite(items: Items, _: CaffeLayer) -> Items:
        said = any(key(item) == "normalization" for item in items)
        kept: list[Field | Element] = []
        for item in items:
            if isinstance(item, Field) and item.key == "normalize":
                meant = "VALID" if literal(item.value) is True else "BATCH_SIZE"
                if not said and meant != default:
                    value = making.word(meant, item.value.span)
                    kept.append(replace(item, key="normalization", value=value))
            else:
                kept.append(item)
        return kept

    return rewrite


def _filtered(items: Items, layer: CaffeLayer) -> Items:
    """The channels stand on axis 1 here."""
    axis = first(tuple(items), "axis")
    if axis not in (None, 1):
        (item,) = [i for i in items if key(i) == "axis"][:1]
        message = f"`{layer.label}`: filters slide over the axes behind axis 1, not {axis}"
        raise SpecError(message, item.span, code="field")
    return [item for item in items if key(item) != "axis"]


def _infogain(items: Items, layer: CaffeLayer) -> Items:
    source = next((i for i in items if key(i) == "source"), None)
    if source is not None:
        message = (
            f"`{layer.label}`: a matrix in a file is not read; "
            "give it as a third bottom, or as `infogain` rows"
        )
        raise SpecError(message, source.span, code="field")
    return items


def _dummy_data(items: Items, _: CaffeLayer) -> Items:
    """Four numbers for each top, in old files, are a shape."""
    axes = [[i for i in items if key(i) == n] for n in ("num", "channels", "height", "width")]
    kept = [item for item in items if not any(item in axis for axis in axes)]
    shapes = [
        making.message("shape", [replace(i, key="dim") for i in dims if isinstance(i, Field)])
        for dims in zip(*axes, strict=False)
    ]
    return [*shapes, *kept]


def _dropout(items: Items, _: CaffeLayer) -> Items:
    """`scale_train: true`, of a fork, is what Caffe does."""
    return [
        item
        for item in items
        if not (
            isinstance(item, Field) and (item.key, literal(item.value)) == ("scale_train", True)
        )
    ]


_FILTERED = Dialect(renamed={"hole": "dilation"}, rewrite=_filtered)

DIALECTS: Mapping[str, Dialect] = {
    "Convolution": _FILTERED,
    "Deconvolution": _FILTERED,
    "ConvolutionDepthwise": _FILTERED,
    "DepthwiseConvolution": _FILTERED,
    "BatchNorm": Dialect(rewrite=_batch_norm, params=lambda _, __: ()),
    "DummyData": Dialect(rewrite=_dummy_data),
    "Dropout": Dialect(rewrite=_dropout),
    "Pooling": Dialect(rewrite=_pool),
    "SoftmaxWithLoss": Dialect(blocks=("softmax_param",), rewrite=_normalization("VALID")),
    "SigmoidCrossEntropyLoss": Dialect(rewrite=_normalization("BATCH_SIZE")),
    "Concat": Dialect(renamed={"concat_dim": "axis"}),
    "Slice": Dialect(renamed={"slice_dim": "axis"}),
    "InfogainLoss": Dialect(blocks=("loss_param",), rewrite=_infogain),
    "MultinomialLogisticLoss": Dialect(blocks=("loss_param",)),
    "HingeLoss": Dialect(blocks=("loss_param",)),
    "BN": Dialect(
        renamed={
            "scale_filler": "slope_filler",
            "shift_filler": "bias_filler",
            "var_eps": "eps",
        },
        unsaid=frozenset({"icnet"}),
        rewrite=forks.bn,
        params=forks.bn_params,
    ),
    "DetectionOutput": Dialect(
        unsaid=frozenset({"save_output_param", "save_file", "visualize", "visualize_threshold"})
    ),
    "Normalize": Dialect(rewrite=forks.normalize),
}
"""By Caffe's type; a type that is not here has our words in its own block."""

PLAIN = Dialect()
