"""Caffe's own tests of its upgrade, filter and splits, compared as protobuf messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from netspec.caffe import v0, v1
from netspec.caffe.faults import Faults
from netspec.caffe.forms import upgrade_net
from netspec.caffe.message import key, number, text
from netspec.caffe.padding import fold_padding
from netspec.caffe.splits import insert_splits
from netspec.caffe.state import filter_net, state_of
from netspec.diagnostics import Diagnostics, Source
from netspec.grammar.ast import Element, Expr, Field, List, Message
from netspec.grammar.parser import parse

CONFORMANCE = Path(__file__).parents[3] / "shared" / "corpus" / "conformance"


def pairs(name: str, *operations: str) -> list[Any]:
    """The cases of a file, each under its name; none where the files are missing."""
    path = CONFORMANCE / f"{name}_pairs.json"
    cases = json.loads(path.read_text("utf-8")) if path.exists() else []
    marked = [
        pytest.param(case["op"], case["input"], case["expected"], id=f"{at}-{case['test']}")
        for at, case in enumerate(cases)
    ]
    skip = pytest.mark.skip(reason="the conformance files are not here")
    return marked or [pytest.param("", "", "", marks=skip)]


def tree(text: str) -> Message:
    return parse(Source("net.prototxt", text))


def plain(message: Message) -> dict[str, list[Any]]:
    """A message as protobuf compares it: the order counts among the values of one field only."""
    fields: dict[str, list[Any]] = {}
    for item in message.items:
        match item:
            case Field(value=List(elements=elements)):
                fields.setdefault(item.key, []).extend(map(_plain, elements))
            case Field(value=value):
                fields.setdefault(item.key, []).append(_plain(value))
            case Element(word=word, body=Message() as body):
                fields.setdefault(word, []).append(plain(body))
            case _:
                raise AssertionError(key(item))
    return fields


def _plain(value: Expr | Message) -> Any:
    if isinstance(value, Message):
        return plain(value)
    said = text(value)
    return said if said is not None else number(value)


@pytest.mark.parametrize(("operation", "given", "expected"), pairs("filter_net"))
def test_filter_pair(operation: str, given: str, expected: str) -> None:
    found = Diagnostics()
    net = tree(given)
    filtered = filter_net(net, state_of(net), diagnostics=found)
    assert plain(filtered) == plain(tree(expected))
    assert not found.errors
    assert filter_net(filtered, state_of(net), diagnostics=found) == filtered


@pytest.mark.parametrize(("operation", "given", "expected"), pairs("insert_splits"))
def test_splits_pair(operation: str, given: str, expected: str) -> None:
    found = Diagnostics()
    split = insert_splits(tree(given), diagnostics=found)
    assert plain(split) == plain(tree(expected))
    assert not found.errors
    assert insert_splits(split, diagnostics=found) == split


@pytest.mark.parametrize(("operation", "given", "expected"), pairs("upgrade_proto"))
def test_upgrade_pair(operation: str, given: str, expected: str) -> None:
    found = Diagnostics()
    faults = Faults(found)
    net = tree(given)
    match operation:
        case "RunPaddingUpgradeTest":
            upgraded = fold_padding(net.items, faults)
        case "RunV0UpgradeTest":
            upgraded = v0.to_v1(net.items, faults)
        case "RunV1UpgradeTest":
            upgraded = tuple(
                v1.to_current(item, faults) if isinstance(item, Element) else item
                for item in net.items
            )
    assert plain(Message(upgraded, net.span)) == plain(tree(expected))
    assert not found.errors
    current = upgrade_net(net, diagnostics=found)
    assert plain(current) == plain(upgrade_net(tree(expected), diagnostics=found))
    assert not found.errors
