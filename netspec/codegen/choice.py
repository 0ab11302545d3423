"""Which of several right formulations is the fastest: measured rules, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, prod

from netspec.codegen.formulation import Formulation
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
)
"""The first rule that fits and whose formulation is right decides; else the first formulation."""


def measures(node: Op) -> dict[str, float]:
    """The numbers that rules speak of."""
    attrs = node.attrs
    found: dict[str, float] = {}
    if node.op_type == "ConvGradWeight":
        _, y_bar = node.inputs
        assert y_bar is not None
        found = {
            "taps": prod(attrs["kernel_shape"]),
            "weights": prod(attrs["shape"]),
            "stride": prod(attrs["strides"]),
        }
    return found


def preferred(node: Op, right: Sequence[Formulation]) -> Formulation:
    """The formulation to take, of those that are right."""
    named = {f.name: f for f in right}
    seen = measures(node)
    for rule in RULES:
        fits = rule.operator == node.op_type and rule.formulation in named
        if fits and all(low <= seen[k] <= high for k, (low, high) in rule.within.items()):
            return named[rule.formulation]
    return right[0]
