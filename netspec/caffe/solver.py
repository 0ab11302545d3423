"""A solver of Caffe's to a section of ours: `base_lr: 0.01 …` → `solver { base_lr: 0.01 … }`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from netspec.caffe.parts import first, literal, lost_comments
from netspec.grammar import making
from netspec.grammar.ast import Comments, Element, Field, Item, Message
from netspec.grammar.making import NOWHERE
from netspec.ir.reading import kind_of
from netspec.ir.schedule import POLICIES
from netspec.ir.sections import Solver


def solver_section(tree: Message) -> Element:
    """`solver { … }` of a solver file: the fields that ours has, too.

    Which device computes, and what is printed to find faults, is for the command line.
    """
    fields = tuple(i for i in tree.items if isinstance(i, Field | Element))
    items: list[Item] = [_word(i) for i in _single(fields) if _kept(i)]
    items += _unsaid(fields)
    comments = Comments(lost_comments(tree.items, items))
    body = Message(tuple(items), NOWHERE, tree.tail)
    return Element("solver", None, body, tree.span, tree.span, comments)


def _unsaid(fields: tuple[Field | Element, ...]) -> list[Item]:
    """What Caffe takes for what is not said, where we take something else."""
    meant: dict[str, float | bool] = {"test_interval": 0}
    if first(fields, "test_interval"):
        meant["test_initialization"] = True
    if first(fields, "type") in ("Adam", "AdaDelta", "Nesterov"):
        meant["momentum"] = 0
    policy = POLICIES.get(str(first(fields, "lr_policy")))
    meant |= {key: 0 for key in policy.needs if key in ("gamma", "power")} if policy else {}
    return [
        making.field(key, making.scalar(value))
        for key, value in meant.items()
        if first(fields, key) is None
    ]


def _single(items: Iterable[Field | Element]) -> Iterator[Field]:
    """The fields; of several nets that are tested, the first one's number of batches."""
    runs = 0
    for item in items:
        runs += isinstance(item, Field) and item.key == "test_iter"
        if isinstance(item, Field) and (item.key != "test_iter" or runs == 1):
            yield item


def _kept(item: Field) -> bool:
    if item.key not in Solver.model_fields:
        return False
    default = Solver.model_fields[item.key].default
    value = literal(item.value)
    if item.key == "test_iter" and value == 0:
        return False
    return isinstance(default, bool) != isinstance(value, bool) or value != default


def _word(item: Field) -> Field:
    return making.worded(item, kind_of(Solver, item.key).words)
