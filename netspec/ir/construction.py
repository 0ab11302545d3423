"""The state of one build: what is made so far, the names taken, the budget left."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from netspec.diagnostics import Diagnostics, Span, SpecError
from netspec.grammar.ast import Call, Element, Message, String
from netspec.ir.flow import Blob, Blobs, Frame
from netspec.ir.layer import Layer, Phase
from netspec.ir.net import Node, Parameter, Place
from netspec.ir.types import TensorType

MAX_LAYERS = 20_000
"""Layers of an expanded net."""
MAX_STEPS = 400_000
"""Items elaborated, empty repeats included."""
MAX_DEPTH = 128
"""Bodies within bodies, expansions included."""

_LABEL = re.compile(r"[A-Za-z0-9_.\-]+(/[A-Za-z0-9_.\-]+)*")


class Exhausted(Exception):
    """A limit of the build was passed; the fault is reported and nothing more is built."""


@dataclass
class Construction:
    """What a build knows and collects."""

    layers: Mapping[str, type[Layer]]
    phase: Phase
    batch: int
    diagnostics: Diagnostics
    nodes: list[Node] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    blobs: Blobs = field(default_factory=Blobs)
    names: dict[str, Span] = field(default_factory=dict)
    parameters: dict[str, tuple[Parameter, Span]] = field(default_factory=dict)
    missing: list[tuple[str, str, Span, Frame]] = field(default_factory=list)
    """Bottoms that were not there when they were read: (name, layer, span, frame)."""
    label: TensorType | None = None
    """The implicit label, once something reads it."""
    ends: list[Blob] = field(default_factory=list)
    """Blobs that end a chain on purpose: the result of the net and of its heads."""
    _steps: int = 0

    def report(self, error: SpecError, frame: Frame) -> None:
        """Keep a fault, with the expansions around it."""
        error.trail = (*error.trail, *frame.trail)
        self.diagnostics.error(error)

    def warn(self, message: str, span: Span, frame: Frame) -> None:
        """Keep a lint."""
        self.diagnostics.warn(SpecError(message, span, code="lint", trail=frame.trail))

    def spend(self, span: Span, frame: Frame) -> None:
        """Pay for one item; beyond the budget the build ends."""
        self._steps += 1
        if self._steps > MAX_STEPS:
            self.exhaust(f"the spec expands to more than {MAX_STEPS:,} items", span, frame)
        if len(self.nodes) >= MAX_LAYERS:
            self.exhaust(f"the spec expands to more than {MAX_LAYERS:,} layers", span, frame)
        if frame.depth > MAX_DEPTH:
            self.exhaust(f"the expansion is nested deeper than {MAX_DEPTH}", span, frame)

    def exhaust(self, message: str, span: Span, frame: Frame) -> None:
        """Report a limit and end the build."""
        self.report(SpecError(message, span, code="limit"), frame)
        raise Exhausted

    def name(self, word: str, label: String | None, span: Span, frame: Frame) -> str:
        """The full name of a layer, a group or an expansion: its label, or its type and count.

        Counts go on over labelled ones and over those of the other phase, so that a name is the
        same in both.
        """
        frame.counts[word] += 1
        if label is None:
            return f"{frame.prefix}{word}{frame.counts[word]}"
        if not _LABEL.fullmatch(label.value) or len(label.value) > 128:
            raise SpecError(
                "a name holds letters, digits, `_`, `-`, `.` and single `/`, 128 characters at most",
                label.span,
                code="name",
            )
        return frame.prefix + label.value

    def claim(self, name: str, span: Span) -> None:
        """Take a name; a second taker is a fault."""
        if name in self.names:
            raise SpecError(
                f"the name `{name}` is taken",
                span,
                code="name",
                trail=[("the first one is here", self.names[name])],
            )
        self.names[name] = span

    def active(self, body: Message | None) -> bool:
        """Whether `include { phase: … }` and `exclude { … }` leave the item in this phase."""
        if body is None:
            return True
        rules = [i for i in body.items if isinstance(i, Element) and i.word in ("include", "exclude")]
        if not rules:
            return True
        words = {rule.word for rule in rules}
        if len(words) > 1:
            raise SpecError("an item has include or exclude, not both", rules[1].span, code="field")
        matched = any([self._matches(rule) for rule in rules])
        return matched is ("include" in words)

    def _matches(self, rule: Element) -> bool:
        if rule.body is None:
            raise SpecError(f"`{rule.word}` takes {{ phase: … }}", rule.span, code="field")
        phase: str | None = None
        for item in rule.body.items:
            value = getattr(item, "value", None)
            if getattr(item, "key", None) != "phase":
                raise SpecError(f"`{rule.word}` knows `phase` only", item.span, code="field")
            phase = getattr(value, "word", getattr(value, "value", None))
            if phase not in ("TRAIN", "TEST"):
                assert value is not None
                raise SpecError("phase must be TRAIN or TEST", value.span, code="value")
        return phase is None or phase == self.phase


def where(item: Element | Call) -> Span:
    """The part of an item that a message underlines: its word."""
    return item.word_span
