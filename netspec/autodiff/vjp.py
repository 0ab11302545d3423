"""Reverse-mode differentiation: a graph of ONNX operators grows the operators of its gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from netspec.ir.graph import Op, Ops, Value


@dataclass(frozen=True, slots=True)
class Primal:
    """The operator that a rule pulls back through, and which of its inputs want a cotangent."""

    node: Op
    wanted: tuple[bool, ...]

    def wants(self, index: int) -> bool:
        """Whether the cotangent of input `index` is asked for; a rule may skip what is not."""
        return index < len(self.wanted) and self.wanted[index]


Rule: TypeAlias = Callable[..., Sequence[Value | None]]
"""`rule(op, primal, *cotangents_of_outputs)`: one cotangent per input, None for what is not wanted.

A cotangent that arrives is None where nothing depends on that output. For an input that is there
twice, the first cotangent may stand for both.
"""

RULES: dict[str, Rule] = {}

NON_DIFFERENTIABLE: frozenset[str] = frozenset(
    {
        "And", "ArgMax", "ArgMin", "Bernoulli", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr",
        "BitwiseXor", "Ceil", "Constant", "ConstantOfShape", "Equal", "EyeLike", "Floor", "Greater",
        "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "NonZero", "Not", "OneHot", "Or",
        "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Range", "Round",
        "Shape", "Sign", "Size", "StopGradient", "Xor",
    }
)  # fmt: skip
"""Operators whose derivative is zero almost everywhere or is to be taken as zero, or whose outputs
are not real numbers."""


def vjp(op_type: str) -> Callable[[Rule], Rule]:
    """Register the rule that pulls cotangents of `op_type`'s outputs back to its inputs."""

    def register(rule: Rule) -> Rule:
        assert op_type not in RULES, f"{op_type} already has a rule"
        assert op_type not in NON_DIFFERENTIABLE, f"{op_type} is named non-differentiable"
        RULES[op_type] = rule
        return rule

    return register


def grad(
    op: Ops, ops: Sequence[Op], seeds: Mapping[Value, Value], wrt: Sequence[Value]
) -> list[Value | None]:
    """Append the operators that pull `seeds` (value → its cotangent) back through `ops`.

    Returns the cotangents of `wrt`, None for a value on which no seeded one depends. Only what
    leads from `wrt` to a seed is differentiated, and every operator appended leads to a returned
    cotangent. Each of those is a value of its own, neither a seed nor a constant nor another's, so
    that all of them can be outputs of one graph.
    """
    ops = tuple(ops)
    active = dependent(ops, wrt)
    arrived = dict(seeds)
    for node in reversed(ops):
        wanted = tuple(x in active for x in node.inputs)
        cotangents = tuple(map(arrived.get, node.outputs))
        if not _passes(node) or not any(wanted) or all(c is None for c in cotangents):
            continue
        assert node.op_type in RULES, f"{node.name}: {node.op_type} has no gradient rule"
        with op.scope(node.scope):
            pulled = RULES[node.op_type](op, Primal(node, wanted), *cotangents)
        given = set()
        for x, x_bar, want in zip(node.inputs, pulled, wanted, strict=True):
            if x is None or not want:
                continue
            assert x_bar or x in given, f"{node.name}: its rule gives {x.name} no cotangent"
            if x_bar is None:
                continue
            assert x_bar.type == x.type, (node.op_type, x.name, x_bar.type, x.type)
            given.add(x)
            # Added as they come, so that one of them waits, not all; and onnxruntime's CPU adds
            # three tensors by two Adds in half the time of one Sum.
            arrived[x] = op.Add(arrived[x], x_bar) if x in arrived else x_bar
    return _own(op, [arrived.get(x) for x in wrt], taken=seeds.values())


def _passes(node: Op) -> bool:
    return node.op_type not in NON_DIFFERENTIABLE


def dependent(ops: Sequence[Op], wrt: Sequence[Value]) -> set[Value | None]:
    """`wrt` and every real number computed from it by something differentiable."""
    active: set[Value | None] = set(wrt)
    for node in ops:
        if _passes(node) and any(x in active for x in node.inputs):
            active.update(y for y in node.outputs if y.type.dtype.startswith("float"))
    return active


def _own(op: Ops, found: Sequence[Value | None], *, taken: Iterable[Value]) -> list[Value | None]:
    """`found`, with a copy for what is `taken`, constant or found twice."""
    seen = set(taken)
    own: list[Value | None] = []
    for x_bar in found:
        if x_bar is not None and (x_bar in seen or op.known(x_bar) is not None):
            x_bar = op.Identity(x_bar)
        if x_bar is not None:
            seen.add(x_bar)
        own.append(x_bar)
    return own
