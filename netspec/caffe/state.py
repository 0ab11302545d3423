"""Which layers of a net there are, in a phase, at a level, in stages (Net::FilterNet in net.cpp).

layer { name: "data" include { phase: TRAIN } … }   layer { name: "data" include { phase: TEST } … }
layer { name: "data" include { phase: TRAIN } … }   in the phase TRAIN
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from netspec.caffe.message import body, messages, numbers, texts
from netspec.diagnostics import Diagnostics, SpecError
from netspec.grammar.ast import Element, Message


@dataclass(frozen=True, slots=True)
class NetState:
    """Caffe's NetState."""

    phase: str = "TEST"
    """TRAIN or TEST."""
    level: int = 0
    """Compared with the `min_level` and `max_level` of a rule."""
    stages: tuple[str, ...] = ()
    """Words that a rule asks for (`stage`) or forbids (`not_stage`)."""

    def merged(self, *states: Message) -> NetState:
        """This state with the fields of `state { … }` messages over it; stages are added."""
        phase, level, stages = self.phase, self.level, self.stages
        for state in states:
            for said, _ in texts(state, "phase"):
                phase = said
            for value in numbers(state, "level"):
                level = value if isinstance(value, int) else level
            stages += tuple(said for said, _ in texts(state, "stage"))
        return NetState(phase, level, stages)


def state_of(net: Message, default: NetState = NetState()) -> NetState:
    """The state that a net declares, over a default."""
    return default.merged(*messages(net, "state"))


def filter_net(net: Message, state: NetState, *, diagnostics: Diagnostics) -> Message:
    """The net, in Caffe's current form, without the layers that the state leaves out."""
    items = (
        item
        for item in net.items
        if not (isinstance(item, Element) and item.word == "layer")
        or included(item, state, diagnostics=diagnostics)
    )
    return replace(net, items=tuple(items))


def included(layer: Element, state: NetState, *, diagnostics: Diagnostics) -> bool:
    """Whether a layer is there: if an `include` rule matches, or unless an `exclude` rule does."""
    fields = body(layer)
    include, exclude = list(messages(fields, "include")), list(messages(fields, "exclude"))
    if include and exclude:
        message = "a layer has `include` or `exclude` rules, not both"
        trail = [("its `include` is here", include[0].span)]
        diagnostics.error(SpecError(message, exclude[0].span, code="field", trail=trail))
    if include:
        return any(_matches(rule, state) for rule in include)
    return not any(_matches(rule, state) for rule in exclude)


def _matches(rule: Message, state: NetState) -> bool:
    """Caffe's StateMeetsRule: all that the rule says holds."""
    stages = set(state.stages)
    return (
        all(phase == state.phase for phase, _ in texts(rule, "phase"))
        and all(least <= state.level for least in numbers(rule, "min_level"))
        and all(state.level <= most for most in numbers(rule, "max_level"))
        and all(stage in stages for stage, _ in texts(rule, "stage"))
        and all(stage not in stages for stage, _ in texts(rule, "not_stage"))
    )
