"""Caffe's older forms to its current one, tree to tree: `upgrade_net`, `upgrade_solver`.

    layers { type: RELU bottom: "x" top: "x" }    solver_type: ADAM
    layer { type: "ReLU" bottom: "x" top: "x" }   type: "Adam"

The order is that of UpgradeNetAsNeeded in Caffe's util/upgrade_proto.cpp: V0 to V1, the fields of
`transform_param`, V1 to current, `input` fields, BatchNorm.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from netspec.caffe import current, inputs, v0, v1
from netspec.caffe.faults import Faults
from netspec.caffe.message import Items, key, spread, text
from netspec.diagnostics import Diagnostics, Span, SpecError, suggest
from netspec.grammar.ast import Element, Field, Item, Message, String

SOLVER_TYPES: Final = {
    "SGD": "SGD",
    "NESTEROV": "Nesterov",
    "ADAGRAD": "AdaGrad",
    "RMSPROP": "RMSProp",
    "ADADELTA": "AdaDelta",
    "ADAM": "Adam",
}
"""The word of `solver_type` → the text of `type`."""

_NETS: Final = {"net_param", "train_net_param", "test_net_param"}
"""The fields of a solver in which a net stands."""


def upgrade_net(tree: Message, *, diagnostics: Diagnostics, lenient: bool = False) -> Message:
    """A net in Caffe's current form: of `layer` entries only, its inputs a layer.

    What Caffe refuses is an error, what it passes over a warning; `lenient` reads `layer` and
    `layers` side by side, and types of layers that V1 does not know, with warnings.
    """
    faults = Faults(diagnostics, lenient)
    items = tuple(spread(tree.items))
    _refuse_mixed(items, faults)
    if any(v0.is_v0(item) for item in items):
        items = v0.to_v1(items, faults)
    items = tuple(_from_v1(item, faults) for item in items)
    items = inputs.to_layer(items, faults)
    return replace(tree, items=tuple(_settled(item, faults) for item in items))


def _from_v1(item: Item, faults: Faults) -> Item:
    is_layer = isinstance(item, Element) and item.word == "layers"
    return v1.to_current(item, faults) if isinstance(item, Element) and is_layer else item


def _settled(item: Item, faults: Faults) -> Item:
    is_layer = isinstance(item, Element) and item.word == "layer"
    return current.settle(item, faults) if isinstance(item, Element) and is_layer else item


def _refuse_mixed(items: Items, faults: Faults) -> None:
    firsts: dict[str, Span] = {}
    for item in items:
        if isinstance(item, Element) and item.word in {"layer", "layers"}:
            firsts.setdefault(item.word, item.word_span)
    if len(firsts) == 2:
        message = "a net is of `layer` (current) or of `layers` (V1) entries; this one has both"
        hint = 'write each as `layer { type: "…" … }`'
        trail = [("the first `layer` is here", firsts["layer"])]
        faults.refuse(SpecError(message, firsts["layers"], code="field", hint=hint, trail=trail))


def upgrade_solver(tree: Message, *, diagnostics: Diagnostics, lenient: bool = False) -> Message:
    """A solver with its `type` as a text (UpgradeSolverType), and its own nets in current form."""
    faults = Faults(diagnostics, lenient)
    items = _with_type(tuple(spread(tree.items)), faults)
    return replace(tree, items=tuple(_with_current_net(item, faults) for item in items))


def _with_type(items: Items, faults: Faults) -> Items:
    """`solver_type: ADAM` → `type: "Adam"`."""
    new = next((item for item in items if key(item) == "type"), None)
    kept: list[Item] = []
    for item in items:
        if key(item) != "solver_type" or not isinstance(item, Field):
            kept.append(item)
        elif new is not None:
            message = "a solver has a `type` or a `solver_type`, not both"
            trail = [("its `type` is here", new.span)]
            faults.error(SpecError(message, item.span, code="field", trail=trail))
        else:
            kept.append(_as_type(item, faults))
    return tuple(kept)


def _as_type(item: Field, faults: Faults) -> Field:
    word = text(item.value) or ""
    name = SOLVER_TYPES.get(word)
    if name is None:
        message = f"there is no `solver_type` `{word}`{suggest(word, SOLVER_TYPES)}"
        faults.error(SpecError(message, item.value.span, code="value"))
        return item
    return replace(item, key="type", value=String(name, item.value.span))


def _with_current_net(item: Item, faults: Faults) -> Item:
    """`net_param { layers … }` → `net_param { layer … }`, which Caffe itself does not do."""
    if not isinstance(item, Element) or item.word not in _NETS or item.body is None:
        return item
    if any(key(inner) in {"layers", "input"} for inner in item.body.items):
        message = f"Caffe reads the current form alone in the `{item.word}` of a solver"
        faults.warn(SpecError(message, item.word_span, code="field"))
    net = upgrade_net(item.body, diagnostics=faults.diagnostics, lenient=faults.lenient)
    return replace(item, body=net)
