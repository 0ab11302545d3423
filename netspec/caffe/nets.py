"""The nets of a solver, and the state of each (InitTrainNet, InitTestNets in Caffe's solver.cpp).

net: "a.prototxt"  test_iter: 100  test_state { stage: "validation" }
train a.prototxt in TRAIN; test a.prototxt in TEST with the stage "validation"
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from netspec.caffe.message import messages, single, spread, values
from netspec.caffe.state import NetState, state_of
from netspec.diagnostics import Diagnostics, SpecError
from netspec.grammar.ast import Element, Field, Message

_TRAIN: Final = ("train_net_param", "train_net", "net_param", "net")
_COMMON: Final = ("net_param", "net")


@dataclass(frozen=True, slots=True)
class SolverNet:
    """One net of a solver."""

    source: Field | Element
    """`net: "file"` or `net_param { … }`, or one of their kin."""
    phase: str
    """TRAIN or TEST: what holds unless the net or the solver says otherwise."""
    state: Message | None
    """The solver's `train_state`, or its `test_state` for this net."""

    def state_of(self, net: Message) -> NetState:
        """The state in which `net`, which `source` names, runs: phase < net < solver."""
        states = [] if self.state is None else [self.state]
        return state_of(net, NetState(self.phase)).merged(*states)


def find_train_net(solver: Message, *, diagnostics: Diagnostics) -> SolverNet | None:
    """The net that is trained; if there is none, or more than one, that is an error."""
    named = [field for key in _TRAIN for field in solver.fields(key)]
    if not named:
        listed = ", ".join(f"`{key}`" for key in _TRAIN)
        message = f"a solver names the net that it trains by one of {listed}"
        diagnostics.error(SpecError(message, solver.span, code="field"))
        return None
    source, *others = named
    for other in others:
        message = "a solver names one net that it trains"
        trail = [("the other one is here", source.span)]
        diagnostics.error(SpecError(message, other.span, code="field", trail=trail))
    return SolverNet(source, "TRAIN", next(messages(solver, "train_state"), None))


def find_test_nets(solver: Message, *, diagnostics: Diagnostics) -> tuple[SolverNet, ...]:
    """The nets that are tested, one for each `test_iter`: those of their own, then the common one.

    The common net (`net` or `net_param`) is tested as often as there are `test_iter` left.
    """
    own: list[Field | Element] = [*_bodied(solver, "test_net_param"), *_named(solver, "test_net")]
    common = [item for key in _COMMON for item in solver.fields(key)]
    runs = list(values(solver, "test_iter"))
    states = list(messages(solver, "test_state"))
    left = len(runs) - len(own)
    if left < 0 or (left > 0 and not common):
        spans = [value.span for value in runs] + [net.span for net in own]
        message = f"{len(own)} nets are tested, with {len(runs)} `test_iter`"
        hint = "each net that is tested has a `test_iter` of its own"
        diagnostics.error(SpecError(message, spans[-1], code="field", hint=hint))
        return ()
    sources = own + common[:1] * left
    if states and len(states) != len(sources):
        message = f"{len(sources)} nets are tested, with {len(states)} `test_state`"
        hint = "give one `test_state` to each net that is tested, or none"
        diagnostics.error(SpecError(message, states[-1].span, code="field", hint=hint))
        return ()
    matched: list[Message | None] = [*states] or [None] * len(sources)
    pairs = zip(sources, matched, strict=True)
    return tuple(SolverNet(source, "TEST", state) for source, state in pairs)


def _bodied(solver: Message, key: str) -> Iterator[Element]:
    """The nets that stand in a field."""
    for item in spread(solver.fields(key)):
        if isinstance(item, Element):
            yield item


def _named(solver: Message, key: str) -> Iterator[Field]:
    """The files that a field names, each where it stands."""
    for item in solver.fields(key):
        if isinstance(item, Field):
            yield from single(item)
