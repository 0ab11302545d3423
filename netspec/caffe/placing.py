"""Which layers of a training net and a test net are the same one, and in which order all stand."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass

from netspec.caffe.parts import CaffeLayer
from netspec.grammar.ast import Element, Message
from netspec.ir.layer import Phase


@dataclass(frozen=True)
class Placed:
    """A layer and the phases that it is in."""

    layer: CaffeLayer
    phases: tuple[Phase, ...]


def place(train: Message, test: Message) -> list[Placed]:
    """The layers of both nets in an order that keeps each one's own; what is equal stands once."""
    tests = _layers(test)
    where: defaultdict[Element, deque[int]] = defaultdict(deque)
    for i, element in enumerate(tests):
        where[element].append(i)
    placed: list[Placed] = []
    done = 0
    for element in _layers(train):
        places = where[element]
        while places and places[0] < done:
            places.popleft()
        if not places:
            placed.append(Placed(CaffeLayer.of(element), (Phase.TRAIN,)))
            continue
        at = places.popleft()
        placed += [Placed(CaffeLayer.of(e), (Phase.TEST,)) for e in tests[done:at]]
        placed.append(Placed(CaffeLayer.of(element), (Phase.TRAIN, Phase.TEST)))
        done = at + 1
    placed += [Placed(CaffeLayer.of(e), (Phase.TEST,)) for e in tests[done:]]
    return placed


def _layers(net: Message) -> list[Element]:
    return [i for i in net.items if isinstance(i, Element) and i.word == "layer"]
