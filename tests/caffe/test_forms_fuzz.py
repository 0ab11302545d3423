"""Mutated nets and solvers: nothing but located errors, whatever the schema would say of them."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from netspec.caffe.flow import check_flow
from netspec.caffe.forms import upgrade_net, upgrade_solver
from netspec.caffe.nets import find_test_nets, find_train_net
from netspec.caffe.splits import insert_splits, outputs_of, tops_of
from netspec.caffe.state import filter_net, state_of
from netspec.diagnostics import Diagnostics, Source
from netspec.grammar.ast import Element, Field, Item, List, Message, Number, Reference, String
from netspec.grammar.parser import parse

SEEDS = """
name: "n" input: "data" input_dim: [1, 3, 8, 8] state { phase: TRAIN level: 2 stage: 'a' }
layers { layer { name: "p" type: "padding" pad: 1 } bottom: "data" top: "p" }
layers { layer { name: "c" type: "conv" kernelsize: 3 blobs_lr: 1 } bottom: "p" top: "c" }
layers { name: "v" type: DATA data_param { scale: 1 } transform_param {} top: ["x", "label"] }
layers { type: RELU bottom: "c" top: "c" param: "w" blob_share_mode: STRICT weight_decay: [1, 2] }
layer { name: "b" type: "BatchNorm" bottom: "c" top: "c" param {} param { lr_mult: 1 } param {} }
layer { type: "Data" top: "d" data_param { crop_size: 1 } include { phase: TRAIN min_level: 1 } }
layer { type: "X" bottom: "c" bottom: "c" top: "e" loss_weight: -1 exclude: [{ stage: 'a' }] }
net: 'a' train_net_param { layers { type: RELU } } test_net: ['b'] test_iter: [1, 2]
test_state { level: 1 } train_state { stage: 'a' } solver_type: ADAM type: "SGD"
"""

WORDS = [
    *("layer", "layers", "input", "input_dim", "input_shape", "param", "type", "name", "bottom"),
    *("top", "include", "exclude", "pad", "blobs_lr", "data_param", "transform_param", "state"),
    *("phase", "loss_weight", "test_net", "test_iter", "net", "solver_type", "scale"),
]

CORPUS = Path(__file__).parents[3] / "shared" / "corpus" / "nets"


def mutate(message: Message, random: Random) -> Message:
    """A tree that says something else in about one of its items out of ten."""
    items: list[Item] = []
    for item in message.items:
        if isinstance(item, Element) and item.body is not None:
            body = mutate(item.body, random)
            item = Element(item.word, item.label, body, item.span, item.word_span)
        roll = random.randrange(80)
        items += [] if roll == 0 else [item, item] if roll == 1 else [odd(item, roll, random)]
    return Message(tuple(items), message.span)


def odd(item: Item, roll: int, random: Random) -> Item:
    if not isinstance(item, Field | Element):
        return item
    word = random.choice(WORDS)
    at = item.span
    values = [Number("-1", -1, at), String("a", at), Reference(("RELU",), at), List((), at)]
    values.append(List((Message((), at), String("x", at)), at))
    match roll:
        case 2:
            return Field(word, random.choice(values), at, at)
        case 3:
            return Element(word, None, Message((item,), at), at, at)
        case 4:
            return Element(word, None, None, at, at)
        case 5 if isinstance(item, Field):
            return Field(word, item.value, at, at)
        case 6 if isinstance(item, Element):
            return Element(word, None, item.body, at, at)
        case 7 if isinstance(item, Field):
            return Field(item.key, random.choice(values), at, at)
    return item


def road(tree: Message, *, lenient: bool) -> Diagnostics:
    """All that is done with a tree, as the file of a net and of a solver."""
    found = Diagnostics()
    net = upgrade_net(tree, diagnostics=found, lenient=lenient)
    filtered = filter_net(net, state_of(net), diagnostics=found)
    check_flow(filtered, diagnostics=found, whole=net)
    split = insert_splits(filtered, diagnostics=found)
    assert len(tops_of(split)) >= len(tops_of(filtered))
    outputs_of(split)
    solver = upgrade_solver(tree, diagnostics=found, lenient=lenient)
    nets = [find_train_net(solver, diagnostics=found), *find_test_nets(solver, diagnostics=found)]
    for each in nets:
        if each is not None:
            each.state_of(tree)
    return found


def trees() -> list[Message]:
    paths = sorted(CORPUS.rglob("*.prototxt"), key=lambda path: path.stat().st_size)[:60]
    texts = [SEEDS, *(path.read_text("utf-8", "replace") for path in paths)]
    return [parse(Source("net.prototxt", text)) for text in texts]


@pytest.mark.parametrize("seed", range(4))
def test_fuzz(seed: int) -> None:
    random = Random(seed)
    sources = trees()
    for turn in range(600):
        tree = sources[0] if turn % 2 else random.choice(sources)
        found = road(mutate(tree, random), lenient=bool(turn % 3))
        for fault in found.errors + found.warnings:
            assert fault.render()
