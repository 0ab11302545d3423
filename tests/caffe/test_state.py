"""Which layers are there in a state, and the state of each net of a solver."""

from __future__ import annotations

import pytest

from netspec.caffe.nets import find_test_nets, find_train_net
from netspec.caffe.state import NetState, filter_net, included, state_of
from netspec.caffe.wiring import layers_of
from netspec.diagnostics import Diagnostics, Source
from netspec.grammar.ast import Element, Field, Message, String
from netspec.grammar.parser import parse


def tree(text: str) -> Message:
    return parse(Source("net.prototxt", text))


def is_in(rules: str, state: NetState) -> bool:
    found = Diagnostics()
    (layer,) = layers_of(tree(f"layer {{ {rules} }}"))
    there = included(layer, state, diagnostics=found)
    assert not found.errors
    return there


@pytest.mark.parametrize(
    ("rules", "state", "there"),
    [
        ("", NetState(), True),
        ("include { phase: TEST }", NetState(), True),
        ("include { phase: TRAIN }", NetState(), False),
        ("include {}", NetState("TRAIN"), True),
        ("exclude {}", NetState("TRAIN"), False),
        ("exclude { phase: TRAIN }", NetState("TRAIN"), False),
        ("include { min_level: 0 }", NetState(), True),
        ("include { min_level: 1 }", NetState(), False),
        ("include { min_level: -2 max_level: -1 }", NetState(level=-1), True),
        ("include { max_level: 0 }", NetState(level=1), False),
        ("include { stage: 'a' stage: 'b' }", NetState(stages=("a",)), False),
        ("include { stage: ['a', 'b'] }", NetState(stages=("b", "a")), True),
        ("include { not_stage: 'a' }", NetState(stages=("a", "b")), False),
        ("include { not_stage: 'a' } include { stage: 'b' }", NetState(stages=("a", "b")), True),
        ("include: [{ stage: 'a' }, { stage: 'b' }]", NetState(stages=("b",)), True),
        ("exclude { stage: 'a' phase: TRAIN }", NetState("TRAIN"), True),
        ("include { phase: TRAIN stage: 'a' }", NetState("TRAIN", stages=("a",)), True),
    ],
)
def test_rules(rules: str, state: NetState, there: bool) -> None:
    assert is_in(rules, state) == there


def test_both_kinds_of_rules() -> None:
    found = Diagnostics()
    net = tree("layer { exclude { phase: TEST }\n include {} }")
    filter_net(net, NetState(), diagnostics=found)
    (fault,) = found.errors
    assert fault.message == "a layer has `include` or `exclude` rules, not both"
    assert fault.span.line == 1
    assert [span.line for _, span in fault.trail] == [2]


def test_filter_keeps_all_else() -> None:
    net = tree('name: "a" layer { include { phase: TRAIN } } force_backward: true layer {}')
    kept = filter_net(net, NetState(), diagnostics=Diagnostics())
    assert kept == tree('name: "a" force_backward: true layer {}')


def test_the_state_of_a_net() -> None:
    assert state_of(tree("")) == NetState("TEST", 0, ())
    net = tree("state { phase: TRAIN level: -3 stage: 'a' stage: ['b', 'c'] }")
    assert state_of(net) == NetState("TRAIN", -3, ("a", "b", "c"))
    assert state_of(tree("state { stage: 'a' }"), NetState("TRAIN", 2)) == NetState(
        "TRAIN", 2, ("a",)
    )


def test_states_of_a_solver() -> None:
    found = Diagnostics()
    solver = tree(
        "net: 'a' train_state { level: 1 stage: 'fast' }"
        " test_net: ['b', 'c'] test_iter: [1, 2, 3, 4]"
        " test_state {} test_state { level: 2 }"
        " test_state { stage: 'x' } test_state { phase: TRAIN }"
    )
    trained = find_train_net(solver, diagnostics=found)
    nets = find_test_nets(solver, diagnostics=found)
    assert not found.errors
    assert trained is not None
    assert trained.state_of(tree("state { level: 5 stage: 'own' }")) == NetState(
        "TRAIN", 1, ("own", "fast")
    )
    assert [file(net.source) for net in nets] == ["b", "c", "a", "a"]
    assert [net.state_of(tree("state { level: 5 }")) for net in nets] == [
        NetState("TEST", 5),
        NetState("TEST", 2),
        NetState("TEST", 5, ("x",)),
        NetState("TRAIN", 5),
    ]


def file(source: Field | Element) -> str:
    assert isinstance(source, Field)
    assert isinstance(source.value, String)
    return source.value.value


def test_a_net_that_says_its_phase() -> None:
    trained = find_train_net(tree("train_net: 'a'"), diagnostics=Diagnostics())
    assert trained is not None
    assert trained.state_of(tree("")) == NetState("TRAIN")
    assert trained.state_of(tree("state { phase: TEST }")) == NetState("TEST")


def test_nets_that_stand_in_the_solver() -> None:
    found = Diagnostics()
    solver = tree(
        "net_param { name: 'a' } test_net_param { name: 'b' } test_net: 'c' test_iter: [1, 1, 1]"
    )
    trained = find_train_net(solver, diagnostics=found)
    nets = find_test_nets(solver, diagnostics=found)
    assert not found.errors
    assert trained is not None
    assert trained.source == solver.items[0]
    assert [net.source for net in nets] == [solver.items[1], solver.items[2], solver.items[0]]


@pytest.mark.parametrize(
    ("solver", "said", "line"),
    [
        ("base_lr: 1", "a solver names the net that it trains by one of `train_net_param`,", 1),
        ("net: 'a'\ntrain_net: 'b'", "a solver names one net that it trains", 1),
    ],
)
def test_faulty_training_nets(solver: str, said: str, line: int) -> None:
    found = Diagnostics()
    find_train_net(tree(solver), diagnostics=found)
    (fault,) = found.errors
    assert said in fault.message
    assert fault.span.line == line


@pytest.mark.parametrize(
    ("solver", "said", "line"),
    [
        ("test_net: 'a'\ntest_net: 'b' test_iter: 1", "2 nets are tested, with 1 `test_iter`", 2),
        ("train_net: 'a'\ntest_iter: 1", "0 nets are tested, with 1 `test_iter`", 2),
        (
            "net: 'a' test_iter: [1, 2]\ntest_state {}",
            "2 nets are tested, with 1 `test_state`",
            2,
        ),
    ],
)
def test_faulty_test_nets(solver: str, said: str, line: int) -> None:
    found = Diagnostics()
    assert find_test_nets(tree(solver), diagnostics=found) == ()
    (fault,) = found.errors
    assert said in fault.message
    assert fault.span.line == line


def test_the_common_net_is_tested_once_for_each_test_iter() -> None:
    assert len(find_test_nets(tree("net: 'a'"), diagnostics=Diagnostics())) == 0
    assert len(find_test_nets(tree("net: 'a' test_iter: 5"), diagnostics=Diagnostics())) == 1
