"""Choices that were measured: which formulation an operator takes instead of the rules' one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, TypeAlias

from netspec.codegen.choice import preferred
from netspec.codegen.formulation import Formulation, Sight
from netspec.ir.graph import Op, Value

Choose: TypeAlias = Callable[[Op, Sequence[Formulation], Sight], Formulation]
"""Which of the formulations that are right for an operator is taken."""

CLOSE: Mapping[str, float] = {"Conv": 4e6, "ConvGradInput": 4e6, "ConvGradWeight": 4e6}
"""Operators whose formulations may be measured, and from how many multiply-accumulates on.

MaxPoolGrad is none of them: its scatter wants indices that MaxPool in blocks does not make.
"""


@dataclass(frozen=True)
class Choices:
    """Names of formulations by the keys of operators; the rules choose for all others."""

    names: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, node: Op, right: Sequence[Formulation], sight: Sight) -> Formulation:
        if is_close(node, right):
            name = self.names.get(key(node, right, sight))
            for formulation in right:
                if formulation.name == name:
                    return formulation
        return preferred(node, right, sight)


BY_RULES = Choices()
"""What is chosen where nothing was measured."""


def is_close(node: Op, right: Sequence[Formulation]) -> bool:
    """Whether several formulations are right, and which one is taken may matter."""
    return len(right) > 1 and node.op_type in CLOSE and macs(node) >= CLOSE[node.op_type]


def macs(node: Op) -> int:
    """Multiply-accumulates of a convolution or of one of its gradients."""
    if node.op_type == "ConvGradWeight":
        _, y = node.inputs
        weights: int = prod(node.attrs["shape"])
    else:
        w = node.inputs[1]
        assert w is not None
        y = node.outputs[0] if node.op_type == "Conv" else node.inputs[0]
        weights = w.type.numel
    assert y is not None
    return y.type.batch * prod(y.type.spatial) * weights


def key(node: Op, right: Sequence[Formulation], sight: Sight) -> str:
    """What the time of an operator hangs on, in one line; `#` marks a value in blocks.

    `ConvGradInput(float32[64x16x8x8]#, float32[16x32x3x3]; group=1 …) blocked|transposed`
    """

    def said(value: Value | None) -> str:
        if value is None:
            return "none"
        return f"{value.type}#" if value in sight.blocked else str(value.type)

    called = f"{node.domain}:{node.op_type}" if node.domain else node.op_type
    inputs = ", ".join(map(said, node.inputs))
    attrs = " ".join(f"{name}={_text(value)}" for name, value in sorted(node.attrs.items()))
    outputs = ", ".join(str(value.type) for value in node.outputs)
    return f"{called}({inputs}; {attrs}) {outputs}: {'|'.join(f.name for f in right)}"


def _text(value: Any) -> str:
    """An attribute in one word, a tuple and a list alike."""
    if isinstance(value, list | tuple):
        return "x".join(map(str, value))
    return str(value)
