"""Makes still what the solver freezes: `freeze: "trunk"` → its layers infer, and learn nothing."""

from __future__ import annotations

from dataclasses import replace

from netspec.diagnostics import SpecError, UsageError
from netspec.grammar.ast import Element, Expr, Field, List, Message, String
from netspec.ir.layer import Phase
from netspec.ir.named import meant, within
from netspec.ir.net import Net


def freeze(net: Net, tree: Message) -> Net:
    """The net with the frozen layers marked, and lr_mult 0 for all that they have learned.

    Raises SpecError for a word that names nothing in phase TRAIN; that of TEST may leave out what
    is frozen.
    """
    if net.solver is None or not net.solver.freeze:
        return net
    blocks = within(net)
    still: set[str] = set()
    for word in net.solver.freeze:
        try:
            still.update(layer for name in meant(word, blocks) for layer in blocks[name])
        except UsageError as error:
            if net.phase is Phase.TRAIN:
                raise _located(str(error), word, tree) from None
    kept = {p.name for node in net.nodes if node.name in still for p in node.parameters}
    nodes = []
    for node in net.nodes:
        parameters = tuple(
            replace(p, lr_mult=0.0) if p.name in kept else p for p in node.parameters
        )
        change = {"frozen": node.name in still, "parameters": parameters}
        nodes.append(node.model_copy(update=change))
    return net.model_copy(update={"nodes": tuple(nodes)})


def _located(message: str, word: str, tree: Message) -> SpecError:
    """At the word in the field, as closely as it is written."""
    span = tree.span
    for solver in (i for i in tree.items if isinstance(i, Element) and i.word == "solver"):
        for said in solver.body.fields("freeze") if solver.body else ():
            if isinstance(said, Field):
                value = said.value
                parts = value.elements if isinstance(value, List) else (value,)
                span = next((p.span for p in parts if _is(p, word)), value.span)
    return SpecError(f"solver: `freeze`: {message}", span, code="name")


def _is(part: Expr | Message, word: str) -> bool:
    return isinstance(part, String) and part.value == word
