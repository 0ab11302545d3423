"""From ONNX's operators and those of gradients to what a target runs, and how it runs it best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from netspec.codegen.builder import Builder
from netspec.codegen.formulation import Forms
from netspec.codegen.layout import Plan, plan
from netspec.codegen.operators import word
from netspec.codegen.simplify import simplify
from netspec.codegen.target import Target
from netspec.diagnostics import UsageError
from netspec.ir.graph import Graph, Op, Value


@dataclass(frozen=True)
class Formulated:
    """A graph as a target runs it."""

    graph: Graph
    outputs: Mapping[Value, Value]
    """What stands for each output of the graph that it was made from; inputs are the same."""
    plan: Plan


def formulate(graph: Graph, target: Target, chosen: Plan | None = None) -> Formulated:
    """Write every operator in its chosen formulation, reordering a value where a reader wants it.

    x → Conv → Relu → Gemm   →   x → nchwc.Conv with activation → ReorderOutput → Gemm

    UsageError for an operator that the target cannot run.
    """
    chosen = chosen or plan(graph, target)
    op = Builder()
    op.inputs.extend(graph.inputs)
    forms = Forms(op, target.block, graph, chosen.epilogues)
    for value in graph.inputs:
        forms.hold(value, value, "plain")
    done: set[Op] = set()
    for node in graph.ops:
        if node in done:
            continue
        done.update(forms.epilogue(node).absorbed)
        with op.scope(node.scope):
            _write(forms, node, chosen)
    outputs = {value: forms.plain(value) for value in graph.outputs}
    written = simplify(op.graph(tuple(outputs.values()), name=graph.name))
    for made in written.ops:
        if not target.runs(made):
            raise UsageError(f"layer `{made.scope}`: {target} has no kernel for {made.op_type}")
    return Formulated(written, outputs, chosen)


def _write(forms: Forms, node: Op, chosen: Plan) -> None:
    """Append what computes `node` and the operators that it absorbs."""
    formulation = chosen.chosen.get(node)
    made = formulation.write(forms, node) if formulation else as_it_is(forms, node)
    absorbed = forms.epilogue(node).absorbed
    for i, (value, form) in enumerate(zip(node.outputs, made, strict=True)):
        if form is None:
            continue
        blocked = formulation is not None and formulation.leaves_blocked(i)
        if i == 0 and absorbed:
            value = absorbed[-1].outputs[0]
        assert blocked or form.type == value.type, (node.name, form.type, value.type)
        forms.hold(value, form, "blocked" if blocked else "plain")


def as_it_is(forms: Forms, node: Op) -> Sequence[Value]:
    """The operator itself, over plain values."""
    inputs = [v and forms.plain(v) for v in node.inputs]
    return forms.op.append(word(node), inputs, len(node.outputs), node.attrs)
