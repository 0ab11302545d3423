"""A solver of Caffe's to a section of ours: `base_lr: 0.01 …` → `solver { base_lr: 0.01 … }`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from netspec.caffe.parts import first, literal
from netspec.grammar import making
from netspec.grammar.ast import Element, Field, Item, Message, String
from netspec.grammar.making import NOWHERE
from netspec.ir.reading import kind_of
from netspec.ir.sections import Solver

NETS = ("net", "train_net", "test_net")
"""Fields that name the file of a net."""
EMBEDDED = ("net_param", "train_net_param", "test_net_param")
"""Messages that hold one."""


def solver_section(tree: Message) -> Element:
    """`solver { … }` of a solver file: the fields that ours has, too.

    Which device computes, and what is printed to find faults, is for the command line.
    """
    fields = tuple(i for i in tree.items if isinstance(i, Field | Element))
    items: list[Item] = [_word(i) for i in fields if isinstance(i, Field) and _kept(i)]
    if first(fields, "type") == "Adam" and first(fields, "momentum") is None:
        items.append(making.field("momentum", making.number(0)))  # ours would be Kingma's
    return Element("solver", None, Message(tuple(items), NOWHERE, tree.tail), tree.span, tree.span)


def _kept(item: Field) -> bool:
    if item.key not in Solver.model_fields:
        return False
    default = Solver.model_fields[item.key].default
    value = literal(item.value)
    if item.key == "random_seed" and isinstance(value, int) and value < 0:
        return False
    unset = default is None and value in (0, -1)  # Caffe's way to leave a field out
    return not unset and (isinstance(default, bool) != isinstance(value, bool) or value != default)


def _word(item: Field) -> Field:
    if isinstance(item.value, String) and kind_of(Solver, item.key).words:
        return replace(item, value=making.word(item.value.value, item.value.span))
    return item


def nets(tree: Message) -> Iterator[Field]:
    """The fields that name the solver's nets, the training net first."""
    for key in ("train_net", "net", "test_net"):
        for item in tree.fields(key):
            if isinstance(item, Field) and isinstance(item.value, String):
                yield item
