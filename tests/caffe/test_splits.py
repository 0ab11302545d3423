"""Splits, and the flow of blobs that Caffe asks for."""

from __future__ import annotations

from math import prod
from pathlib import Path

import pytest

from netspec.caffe.flow import check_flow
from netspec.caffe.forms import upgrade_net
from netspec.caffe.splits import insert_splits, outputs_of, tops_of
from netspec.caffe.state import NetState, filter_net
from netspec.diagnostics import Diagnostics, Source, SpecError
from netspec.grammar.ast import Message
from netspec.grammar.parser import parse

CORPUS = Path(__file__).parents[3] / "shared" / "corpus" / "nets"


def tree(text: str) -> Message:
    return parse(Source("net.prototxt", text))


def split(text: str) -> Message:
    found = Diagnostics()
    net = insert_splits(tree(text), diagnostics=found)
    assert not found.errors
    assert insert_splits(net, diagnostics=found) == net
    return net


def faults(text: str, whole: str | None = None) -> list[SpecError]:
    found = Diagnostics()
    check_flow(tree(text), diagnostics=found, whole=tree(whole) if whole else None)
    again = Diagnostics()
    insert_splits(tree(text), diagnostics=again)
    assert len(again.errors) == len(found.errors)
    return found.errors


MADE = 'layer { name: "a" top: "x" }\n'


def test_what_is_read_once_stays() -> None:
    text = (
        MADE + 'layer { name: "b" bottom: "x" top: "x" } layer { name: "c" bottom: "x" top: "y" }'
    )
    assert split(text) == tree(text)


def test_one_layer_that_reads_twice() -> None:
    net = split(MADE + 'layer { name: "b" bottom: ["x", "x"] top: "y" }')
    assert net == tree(
        MADE + 'layer { name: "x_a_0_split" type: "Split" bottom: "x"'
        ' top: "x_a_0_split_0" top: "x_a_0_split_1" }'
        'layer { name: "b" bottom: "x_a_0_split_0" bottom: "x_a_0_split_1" top: "y" }'
    )


def test_a_loss_that_is_read_takes_the_first_top() -> None:
    net = split(
        'layer { name: "a" top: "x" top: "z" loss_weight: 0 loss_weight: 2.5 }'
        'layer { name: "b" bottom: "z" top: "y" }'
    )
    assert net == tree(
        'layer { name: "a" top: "x" top: "z" }'
        'layer { name: "z_a_1_split" type: "Split" bottom: "z"'
        ' top: "z_a_1_split_0" top: "z_a_1_split_1" loss_weight: 2.5 loss_weight: 0 }'
        'layer { name: "b" bottom: "z_a_1_split_1" top: "y" }'
    )
    assert outputs_of(net) == ("x", "y", "z_a_1_split_0")


def test_splits_point_at_the_top() -> None:
    net = insert_splits(tree(MADE + 'layer { bottom: "x" bottom: "x" }'), diagnostics=Diagnostics())
    assert net.items[1].span.where == "net.prototxt:1:24"


def test_tops_and_outputs() -> None:
    net = split(
        MADE + 'layer { name: "r" bottom: "x" top: "x" } layer { name: "b" bottom: "x" top: "y" }'
        'layer { name: "c" bottom: "x" top: "b" }'
    )
    assert tops_of(net) == (
        ("a", ("x",)),
        ("r", ("x",)),
        ("x_r_0_split", ("x_r_0_split_0", "x_r_0_split_1")),
        ("b", ("y",)),
        ("c", ("b",)),
    )
    assert outputs_of(net) == ("b", "y")


def test_unknown_bottoms() -> None:
    (fault,) = faults('layer { name: "a" top: "conv1" }\nlayer { bottom: "cnov1" }')
    assert fault.message == "there is no blob `cnov1`; did you mean `conv1`?"
    assert fault.span.where == "net.prototxt:2:17"


def test_a_cycle() -> None:
    (fault,) = faults('layer { name: "a" bottom: "y" top: "x" }\nlayer { bottom: "x" top: "y" }')
    assert fault.message == "`a` reads `y` before it is made"
    assert [span.line for _, span in fault.trail] == [2]


def test_a_blob_of_another_phase() -> None:
    text = 'layer { name: "b" bottom: "x" }'
    (fault,) = faults(text, text + MADE)
    assert fault.message == "there is no blob `x` in this state: what makes it is left out"
    assert [span.where for _, span in fault.trail] == ["net.prototxt:1:55"]


def test_a_blob_made_twice() -> None:
    (fault,) = faults(MADE + 'layer { name: "b" top: "x" }')
    assert fault.message == "blob `x` is made twice"
    assert fault.span.line == 2
    assert [span.line for _, span in fault.trail] == [1]
    (fault,) = faults('layer { name: "b" top: ["x", "x"] }')
    assert fault.span.where == "net.prototxt:1:30"


def test_in_place_at_another_index() -> None:
    (fault,) = faults('layer { top: "x" top: "y" } layer { bottom: "x" bottom: "y" top: "y" }')
    assert fault.message == "top 0 is bottom 1: in place, both have the same index"


def test_in_place_of_what_another_layer_reads() -> None:
    text = MADE + 'layer { name: "b" bottom: "x" top: "y" }\nlayer { bottom: "x" top: "x" }'
    (fault,) = faults(text)
    assert "this layer is not alone to read it" in fault.message
    assert fault.span.line == 3
    assert [(label, span.line) for label, span in fault.trail] == [("it is read here, too", 2)]
    (first, *_) = text.splitlines()
    loss = first.replace("}", "loss_weight: 1 }") + '\nlayer { bottom: "x" top: "x" }'
    (fault,) = faults(loss)
    assert [(label, span.line) for label, span in fault.trail] == [("it is a loss, too", 1)]


def test_reading_after_the_layer_in_place_is_fine() -> None:
    reader = 'layer { name: "b" bottom: "x" top: "y" }'
    assert not faults(f'{MADE} layer {{ bottom: "x" top: "x" }} {reader}')


def test_a_blob_called_like_that_of_a_split() -> None:
    twice = 'layer { bottom: "x" bottom: "x" top: "y" }'
    (fault,) = faults(f'layer {{ name: "b" top: "x_a_0_split_1" }} {MADE} {twice}')
    assert fault.message == "blob `x_a_0_split_1` is made twice"
    (fault,) = faults(f'{MADE} {twice}\nlayer {{ name: "b" top: "x_a_0_split_1" }}')
    assert fault.span.line == 3


@pytest.mark.parametrize(
    "name", ["layer { bottom: 'x' }", "layer", "layer {}", "layers { top: 'x' }"]
)
def test_odd_nets(name: str) -> None:
    found = Diagnostics()
    insert_splits(tree(name), diagnostics=found)
    assert len(found.errors) == name.count("bottom")


LENET = {
    "data": (64, 1, 28, 28),
    "label": (64,),
    "conv1": (64, 20, 24, 24),
    "pool1": (64, 20, 12, 12),
    "conv2": (64, 50, 8, 8),
    "pool2": (64, 50, 4, 4),
    "ip1": (64, 500),
    "ip2": (64, 10),
    "loss": (),
}
CIFAR = {
    "data": (100, 3, 32, 32),
    "label": (100,),
    "conv1": (100, 32, 32, 32),
    "pool1": (100, 32, 16, 16),
    "conv2": (100, 32, 16, 16),
    "pool2": (100, 32, 8, 8),
    "conv3": (100, 64, 8, 8),
    "pool3": (100, 64, 4, 4),
    "ip1": (100, 64),
    "ip2": (100, 10),
    "loss": (),
    "accuracy": (),
}


@pytest.mark.skipif(not CORPUS.exists(), reason="the corpus is not here")
@pytest.mark.parametrize(
    ("file", "phase", "shapes", "logged"),
    [
        ("mnist/lenet_train_test", "TRAIN", LENET, 5169924),
        ("cifar10/cifar10_quick_train_test", "TRAIN", CIFAR, 31978804),
        ("cifar10/cifar10_quick_train_test", "TEST", CIFAR, 31987608),
    ],
)
def test_memory_that_caffe_logged(
    file: str, phase: str, shapes: dict[str, tuple[int, ...]], logged: int
) -> None:
    """Published logs of Caffe say "Memory required for data: …" of these nets."""
    path = CORPUS / "BVLC__caffe" / "examples" / f"{file}.prototxt"
    found = Diagnostics()
    net = upgrade_net(tree(path.read_text("utf-8")), diagnostics=found)
    filtered = filter_net(net, NetState(phase), diagnostics=found)
    tops = tops_of(insert_splits(filtered, diagnostics=found))
    assert not found.errors
    blobs = [blob.partition("_")[0] for _, names in tops for blob in names]
    assert 4 * sum(prod(shapes[blob]) for blob in blobs) == logged
