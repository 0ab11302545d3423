"""Decides how each operator is computed and which values live in blocks of channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from netspec.codegen.formulation import Epilogue, Formulation, Sight
from netspec.codegen.formulations import FORMULATIONS
from netspec.codegen.measured import BY_RULES, Choose
from netspec.codegen.target import Target
from netspec.ir.graph import Graph, Op, Value, consumers


@dataclass(frozen=True)
class Plan:
    """What becomes of each operator of a graph."""

    chosen: Mapping[Op, Formulation]
    """How an operator is computed; one that is not here is taken as it is."""
    blocked: frozenset[Value]
    """Values that are made in blocks of channels."""
    epilogues: Mapping[Op, Epilogue]
    """Operators that do the work of those behind them."""


Planner: TypeAlias = Callable[[Graph, Target], Plan]
"""Plans a graph for a target, as `plan` does."""


def plan(graph: Graph, target: Target, choose: Choose = BY_RULES) -> Plan:
    """Choose for each operator in turn, from what it reads; readers get the form that they want.

    Convolutions, pooling and batch normalisation make blocked values. What works cell by cell, or
    on whole blocks, follows its inputs. All else reads plain values and makes them.
    """
    readers = consumers(graph.ops)
    sight = Sight(target.block, set(), readers, kind=target.kind)
    chosen, blocked = _walk(graph, sight, choose)
    if any(_makes_for_others(node, chosen) for node in graph.ops):
        # A value that lives as its readers like best: now it is known what else they read.
        again = replace(sight, blocked=set(), ahead=frozenset(blocked))
        chosen, blocked = _walk(graph, again, choose)
    return Plan(chosen, frozenset(blocked), _epilogues(graph, chosen, readers, blocked))


def _walk(graph: Graph, sight: Sight, choose: Choose) -> tuple[dict[Op, Formulation], set[Value]]:
    chosen: dict[Op, Formulation] = {}
    for node in graph.ops:
        if right := candidates(node, sight):
            chosen[node] = found = choose(node, right, sight)
            made = enumerate(node.outputs)
            sight.blocked.update(value for i, value in made if found.leaves_blocked(i))
    return chosen, sight.blocked


def _makes_for_others(node: Op, chosen: Mapping[Op, Formulation]) -> bool:
    return node.op_type == "Expand" and node not in chosen


def candidates(node: Op, sight: Sight) -> list[Formulation]:
    """The formulations that are right for an operator here, blocked ones first."""
    known = FORMULATIONS.get(node.op_type, []) if not node.domain.startswith("com.") else []
    layouts = ("blocked", "plain") if sight.block else ("plain",)
    return [f for layout in layouts for f in known if f.layout == layout and f.accepts(sight, node)]


def _epilogues(
    graph: Graph,
    chosen: Mapping[Op, Formulation],
    readers: Mapping[Value, Sequence[Op]],
    blocked: set[Value],
) -> dict[Op, Epilogue]:
    """y = conv(x); z = y + r; a = relu(z)   →   a = relu(conv(x) + r), in one operator."""
    made = {value: at for at, op in enumerate(graph.ops) for value in op.outputs}
    leaving = set(graph.outputs)
    epilogues: dict[Op, Epilogue] = {}
    taken: set[Op] = set()

    def only_reader(value: Value) -> Op | None:
        found = readers.get(value, ())
        alone = len(found) == 1 and value not in leaving and found[0] not in taken
        return found[0] if alone and value in blocked else None

    for at, node in enumerate(graph.ops):
        if node not in chosen or not chosen[node].joins:
            continue
        absorbed: list[Op] = []
        added: Value | None = None
        behind = only_reader(node.outputs[0])
        if behind is not None and behind.op_type == "Add" and not behind.domain:
            (other,) = [v for v in behind.inputs if v is not node.outputs[0]] or (None,)
            at_hand = other in blocked and made.get(other, at) < at
            if other is not None and at_hand and other.type == node.outputs[0].type:
                added = other
                absorbed.append(behind)
                behind = only_reader(behind.outputs[0])
            else:
                behind = None
        relu = behind is not None and behind.op_type == "Relu"
        if behind is not None and relu:
            absorbed.append(behind)
        if absorbed:
            taken.update(absorbed)
            epilogues[node] = Epilogue(tuple(absorbed), added, relu)
    return epilogues
