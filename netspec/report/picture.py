"""A net as a picture: nodes with their words, wires with shapes, boxes from the `/` of names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, TypeAlias

from netspec.diagnostics import UsageError, printable
from netspec.ir.analysis import Cost, cost
from netspec.ir.folding import BLOCK, folded
from netspec.ir.layer import Role
from netspec.ir.net import Net, Node
from netspec.ir.types import size
from netspec.report.columns import COLUMNS
from netspec.wording import counted

MAX_NODES = 1000
"""Nodes of one picture: beyond, the layout takes many seconds and nobody reads the result."""

_TOLD = ("output", "parameters", "macs", "activation_bytes", "receptive_field", "line")
"""The columns of a report that a pointer which rests on a node is told."""

MAX_TANGLE = 100_000
"""Σ (wires side by side)², over the ranks of a picture: what the search for few crossings costs.

SENet-154 has 4,567; 24 layers of which each reads all before it have 265,000,
and the layout of 40 such takes minutes.
"""

Kind: TypeAlias = Literal["input", "hidden", "learned", "loss", "metric", "block"]


@dataclass(frozen=True, slots=True)
class Drawn:
    """One node of a picture."""

    lines: tuple[str, ...]
    """What stands in it: its name within its box, and what it is."""
    note: str
    """What a pointer that rests on it tells."""
    kind: Kind
    box: tuple[str, ...] = ()
    """The blocks around it, the outermost first."""


@dataclass(frozen=True, slots=True)
class Wire:
    """A blob on its way from the node that makes it to those that read it, by index."""

    start: int
    ends: tuple[int, ...]
    """One that reads it twice is there twice."""
    text: str
    """Its shape."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What is to be drawn, before anything has a place."""

    title: str
    nodes: tuple[Drawn, ...]
    wires: tuple[Wire, ...]


def picture(net: Net, *, depth: int | None = None) -> Picture:
    """The picture of a net; `depth` draws what is nested deeper as one node for each block.

    conv "3a/1x1/conv1"   →   node `conv1` in box `1x1` in box `3a`; at depth 1 a node `3a`

    UsageError if it has more than MAX_NODES nodes, or wires beyond MAX_TANGLE.
    """
    counted = cost(net)
    rows = counted if depth is None else folded(counted, depth)
    number = {row.name: at for at, row in enumerate(rows.layers)}
    owner = {n.name: number["/".join(n.name.split("/")[:depth])] for n in net.nodes}
    drawn = _drawn(net, rows, Counter(owner.values()))
    readers = [n.name for n in net.nodes if net.label is not None and "label" in n.bottoms]
    if len(drawn) + len(readers) > MAX_NODES:
        raise UsageError(
            f"a picture holds {MAX_NODES:,} nodes, and {printable(net.name) or 'the net'} has "
            f"{len(drawn) + len(readers):,}; --depth 1 draws each block as one node"
        )
    for name in readers:  # beside each reader, not once on top with wires through the whole net
        box = drawn[owner[name]].box
        drawn.append(Drawn(("label",), "label: fed by the data", "input", box))
    labels = {name: len(rows.layers) + at for at, name in enumerate(readers)}
    made = Picture(net.name, tuple(drawn), tuple(_wires(net, drawn, owner, labels)))
    abreast = _abreast(made)
    if sum(count**2 for count in abreast) > MAX_TANGLE:
        raise UsageError(
            f"{printable(net.name) or 'the net'} is too tangled to draw: up to {max(abreast):,} "
            "wires side by side; --depth 1 draws each block as one node"
        )
    return made


def _abreast(made: Picture) -> list[int]:
    """How many wires pass each rank: a node's is the length of the longest way to it.

    Wires against the order of the nodes, such as a label's, are short.
    """
    forward = sorted((e, w.start) for w in made.wires for e in w.ends if w.start < e)
    rank = [0] * len(made.nodes)
    for end, start in forward:
        rank[end] = max(rank[end], rank[start] + 1)
    change = [0] * (len(made.nodes) + 1)
    for end, start in forward:
        change[rank[start]] += 1
        change[rank[end]] -= 1
    return list(accumulate(change))


def _drawn(net: Net, rows: Cost, members: Mapping[int, int]) -> list[Drawn]:
    """A node for each row; `members` counts the layers behind it."""
    nodes = {node.name: node for node in net.nodes}
    drawn = []
    for at, row in enumerate(rows.layers):
        *box, own = map(printable, row.name.split("/"))
        what = " ".join(filter(None, (row.type, COLUMNS["window"].shown(row, rows))))
        kind: Kind = "block"
        if row.type == BLOCK:
            what = counted(members[at], "layer")
        else:
            kind = _kind(nodes[row.name])
        told = [f"{row.name}: {what}"]
        for column in (COLUMNS[key] for key in _TOLD):
            if shown := column.shown(row, rows):
                told.append(f"{column.title} {shown}")
        drawn.append(Drawn((own, what), printable(", ".join(told)), kind, tuple(box)))
    return drawn


def _kind(node: Node) -> Kind:
    if node.layer.role is Role.HIDDEN:
        return "learned" if node.parameters else "hidden"
    roles: dict[Role, Kind] = {
        Role.INPUT: "input",
        Role.SOURCE: "input",
        Role.LOSS: "loss",
        Role.METRIC: "metric",
        Role.SINK: "metric",
    }
    return roles[node.layer.role]


def _wires(
    net: Net, drawn: Sequence[Drawn], owner: Mapping[str, int], labels: Mapping[str, int]
) -> Iterator[Wire]:
    """Each value of a blob to its readers; once to a folded block, and nothing within one."""
    values: dict[str, tuple[int, str, list[int]]] = {}
    made: list[tuple[int, str, list[int]]] = []
    for node in net.nodes:
        here = owner[node.name]
        for name in node.bottoms:
            if name in values:
                start, _, ends = values[name]
                if start != here and not (here in ends and drawn[here].kind == "block"):
                    ends.append(here)
            else:
                made.append((labels[node.name], "", [here]))
        for name, type in zip(node.tops, node.top_types, strict=True):
            values[name] = (here, size(type.sample), [])
            made.append(values[name])
    return (Wire(start, tuple(ends), text) for start, text, ends in made if ends)
