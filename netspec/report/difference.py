"""Two nets beside each other: layers matched by name, and what changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from netspec.ir.analysis import LayerCost
from netspec.ir.fields import plain, shown
from netspec.ir.net import Net
from netspec.ir.types import size
from netspec.report.columns import COLUMNS, total_text
from netspec.report.json import VERSION
from netspec.report.summary import Summary
from netspec.report.table import Table

_COMPARED = ("type", "output", "parameters", "macs")
"""The columns in which layers of one name are compared, beside their fields."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the nets that are compared."""

    spec: str
    net: Net
    summary: Summary


@dataclass(frozen=True, slots=True)
class Change:
    """One thing of a layer, or of all, that is not the same; None where one side has it not."""

    what: str
    before: Any
    after: Any
    shown: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """What distinguishes two nets."""

    before: Side
    after: Side
    inputs: tuple[Change, ...]
    """Inputs that one net alone has, or that have another shape."""
    removed: tuple[LayerCost, ...]
    added: tuple[LayerCost, ...]
    changed: Mapping[str, tuple[Change, ...]]
    """By layer, in the order of the second net."""
    totals: tuple[Change, ...]

    @property
    def same(self) -> bool:
        """Whether the nets are the same to the last field."""
        return not (self.inputs or self.removed or self.added or self.changed or self.totals)


def difference(before: Side, after: Side) -> Difference:
    """Compare two nets; layers of one name are one layer, wherever they stand."""
    old = {layer.name: layer for layer in before.summary.cost.layers}
    new = {layer.name: layer for layer in after.summary.cost.layers}
    fields = [{n.name: plain(n.layer) for n in side.net.nodes} for side in (before, after)]
    changed = {
        name: (*_columns(old[name], new[name], before, after), *_fields(name, *fields))
        for name in new
        if name in old and name not in before.net.inputs
    }
    return Difference(
        before,
        after,
        inputs=_inputs(before.net, after.net),
        removed=tuple(layer for name, layer in old.items() if name not in new),
        added=tuple(layer for name, layer in new.items() if name not in old),
        changed={name: changes for name, changes in changed.items() if changes},
        totals=_totals(before.summary, after.summary),
    )


def _inputs(before: Net, after: Net) -> tuple[Change, ...]:
    old, new = ({n: t.sample for n, t in net.inputs.items()} for net in (before, after))
    return tuple(
        _change(name, old.get(name), new.get(name), size)
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    )


def _columns(old: LayerCost, new: LayerCost, before: Side, after: Side) -> list[Change]:
    found = []
    for key in _COMPARED:
        column = COLUMNS[key]
        a, b = column.value(old, before.summary.cost), column.value(new, after.summary.cost)
        if a != b:
            found.append(_change(key, a, b, column.text))
    return found


def _fields(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Fields that differ; one at its default is not there."""
    a, b = old[name], new[name]
    return [_change(f, a.get(f), b.get(f), shown) for f in {**a, **b} if a.get(f) != b.get(f)]


def _totals(before: Summary, after: Summary) -> tuple[Change, ...]:
    old, new = before.totals, after.totals
    return tuple(
        _change(name, old[name], new[name], partial(total_text, name))
        for name in new
        if old[name] != new[name]
    )


def _change(what: str, before: Any, after: Any, text: Any) -> Change:
    a, b = ("-" if value is None else text(value) for value in (before, after))
    return Change(what, before, after, (a, b))


def difference_tables(found: Difference) -> tuple[Table, Table]:
    """What changed of the layers, and in all."""
    layers = Table([("", False), ("layer", False), ("what", False), ("before", True),
                    ("after", True)])  # fmt: skip
    for change in found.inputs:
        layers.add("~", "input", change.what, *change.shown)
    for sign, lost in (("-", found.removed), ("+", found.added)):
        for layer in lost:
            counts = {"parameters": layer.parameters, "MACs": layer.macs}
            told = ", ".join(f"{n:,} {what}" for what, n in counts.items() if n) or "nothing"
            there = (told, "") if sign == "-" else ("", told)
            layers.add(sign, layer.name, layer.type, *there)
    for name, changes in found.changed.items():
        for i, change in enumerate(changes):
            layers.add("~" if i == 0 else "", name if i == 0 else "", change.what, *change.shown)
    totals = Table([("total", False), ("before", True), ("after", True), ("difference", True)])
    for change in found.totals:
        totals.add(change.what, *change.shown, _growth(change))
    return layers, totals


def _growth(change: Change) -> str:
    """`+1,000 (+4.2%)`."""
    if change.before is None or change.after is None:
        return ""
    by = change.after - change.before
    text = total_text(change.what, abs(by))
    share = f" ({by / change.before:+.1%})" if change.before else ""
    return f"{'-' if by < 0 else '+'}{text}{share}"


def difference_report(found: Difference) -> dict[str, Any]:
    """What `netspec diff --json` prints."""
    return {
        "version": VERSION,
        "before": _side(found.before),
        "after": _side(found.after),
        "same": found.same,
        "inputs": [_data(change) for change in found.inputs],
        "removed": [_layer(layer) for layer in found.removed],
        "added": [_layer(layer) for layer in found.added],
        "changed": [
            {"name": name, "changes": [_data(change) for change in changes]}
            for name, changes in found.changed.items()
        ],
        "totals": [_data(change) for change in found.totals],
    }


def _side(side: Side) -> dict[str, Any]:
    summary = side.summary
    return {"spec": side.spec, "name": summary.name, "batch": summary.cost.batch}


def _layer(layer: LayerCost) -> dict[str, Any]:
    return {
        "name": layer.name,
        "type": layer.type,
        "parameters": layer.parameters,
        "macs": layer.macs,
    }


def _data(change: Change) -> dict[str, Any]:
    return {"what": change.what, "before": change.before, "after": change.after}
