"""One operator in one formulation as a graph of its own, to be measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from netspec.codegen.builder import Builder
from netspec.codegen.formulation import Forms, Formulation, Sight
from netspec.codegen.simplify import simplify
from netspec.ir.graph import Graph, Op, Value


@dataclass(frozen=True)
class Alone:
    """A graph that reads an operator's inputs as they are at hand in the whole graph."""

    graph: Graph
    """Every formulation has the same inputs."""
    channels: Mapping[Value, int]
    """Of inputs in blocks, without those that fill the last one and must be zero."""


def alone(node: Op, formulation: Formulation, like: Formulation, sight: Sight) -> Alone:
    """`node` by `formulation`; its outputs come in the form in which `like` leaves them.

    Reorders that this takes are part of the graph, so that times can be compared.

    ȳ in blocks, w → ConvGradInput   →   ȳ → ReorderOutput → ConvTranspose → ReorderInput → x̄
    """
    op = Builder()
    given = dict.fromkeys(value for value in node.inputs if value is not None)
    forms = Forms(op, sight.block, Graph("alone", tuple(given), node.outputs, (node,)), {})
    channels: dict[Value, int] = {}
    for i, value in enumerate(given):
        if value in sight.blocked:
            n, c, *extent = value.type.shape
            form = op.input(f"x{i}", value.type.with_shape(n, forms.whole(c), *extent))
            channels[form] = c
            forms.hold(value, form, "blocked")
        else:
            forms.hold(value, op.input(f"x{i}", value.type), "plain")
    outputs = []
    made = formulation.write(forms, node)
    for i, (value, got) in enumerate(zip(node.outputs, made, strict=True)):
        if got is None:
            continue
        forms.hold(value, got, "blocked" if formulation.leaves_blocked(i) else "plain")
        outputs.append(forms.blocked(value) if like.leaves_blocked(i) else forms.plain(value))
    return Alone(simplify(op.graph(outputs, name="alone")), channels)
