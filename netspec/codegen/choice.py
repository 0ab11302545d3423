"""Which of several right formulations is the fastest: measured rules, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, prod

from netspec.codegen.formulation import Formulation, Sight
from netspec.ir.graph import Op

Range = tuple[float, float]


@dataclass(frozen=True)
class Rule:
    """Take `formulation` for an operator whose measures all lie within bounds, ends included."""

    operator: str
    formulation: str
    within: Mapping[str, Range] = field(default_factory=dict)


RULES: tuple[Rule, ...] = (
    # A pointwise convolution with a stride, few filters: 0.10 ms by products of matrices where the
    # convolution by images takes 0.13 (64x32x16x16, 64 filters), 0.16 for 0.19 (64x16x32x32, 32).
    # At stride 1 images are faster (32x32x32x32, 64 filters: 0.77 for 1.00).
    Rule("ConvGradWeight", "products", {"taps": (1, 1), "stride": (2, inf), "weights": (1, 4096)}),
    # No whole blocks to go back to. With AVX2, blocks of 8, one product for all images beats
    # ConvTranspose's one for each: 2.00 ms for 2.78 (LeNet's second, batch 64), 0.71 for 1.27
    # (LeNet-5's), 4.6 for 6.8 (12x28x28, 32 filters of 3x3). With AVX-512 it took 1.25 for 0.9.
    Rule("ConvGradInput", "columns", {"block": (8, 8), "filling": (1, 7), "columns": (1, 2**23)}),
    Rule("ConvGradInput", "transposed", {"filling": (1, inf)}),
    # What follows is CUDA's, where passes over memory and launches count: on an H200, graphs
    # recorded, 115 µs for 217 (32x64x112x112), 31 for 59 (32x1024x14x14).
    Rule("ReluGrad", "where"),
    # 384 µs for 486 (32x256x56x56), 97 for 122 (32x2048x7x7); backward 408 for 495, 98 for 104.
    Rule("BatchNormalization", "affine"),
    Rule("BatchNormalizationGrad", "affine"),
    # Images beside each other, one by one, or tap by tap, 3x3, in µs: 79, 377, 148 (32x512x7x7, 512
    # filters), 116, 156, 235 (256x14x14, 256), 185, 181, 225 (128x28x28, 128), 365, 313, 364
    # (64x56x56, 64). A product for few rows leaves most of its tile empty: 224, 325, 377
    # (256x16x32x32, 16).
    Rule("ConvGradWeight", "columns beside", {"taps": (2, inf), "outcome": (0.5, inf)}),
    Rule(
        "ConvGradWeight",
        "columns beside",
        {"taps": (2, inf), "filters": (1, 16), "columns": (2**24, inf)},
    ),
    Rule("ConvGradWeight", "columns", {"taps": (2, inf)}),
)
"""The first rule that fits and whose formulation is right decides; else the first formulation."""


def measures(node: Op, block: int) -> dict[str, float]:
    """The numbers that rules speak of, where so many channels are a block."""
    attrs = node.attrs
    found: dict[str, float] = {"block": block}
    if node.op_type == "ConvGradWeight":
        _, y_bar = node.inputs
        assert y_bar is not None
        filters, *window = attrs["shape"]
        column, windows = prod(window), prod(y_bar.type.spatial)
        read = windows * (filters + column * attrs.get("group", 1))
        found |= {
            "filters": filters,
            "taps": prod(attrs["kernel_shape"]),
            "weights": prod(attrs["shape"]),
            "stride": prod(attrs["strides"]),
            "columns": y_bar.type.batch * windows * column,
            "outcome": filters * column / read,  # of a product of columns, for each image
        }
    elif node.op_type == "ConvGradInput":
        y_bar, w = node.inputs
        assert y_bar is not None
        assert w is not None
        found |= {
            "filling": -attrs["shape"][1] % block if block else 0,
            "columns": y_bar.type.batch * prod(y_bar.type.spatial) * prod(w.type.shape[1:]),
        }
    return found


def preferred(node: Op, right: Sequence[Formulation], sight: Sight) -> Formulation:
    """The formulation to take, of those that are right."""
    named = {f.name: f for f in right}
    seen = measures(node, sight.block)
    for rule in RULES:
        fits = rule.operator == node.op_type and rule.formulation in named
        if fits and all(low <= seen[k] <= high for k, (low, high) in rule.within.items()):
            return named[rule.formulation]
    return right[0]
