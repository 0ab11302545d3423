"""The state of one build: what is made so far, the names taken, the budget left."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from netspec.diagnostics import Diagnostics, Span, SpecError
from netspec.grammar.ast import Call, Element, Field, Item, Let, Message, Reference, String
from netspec.ir.flow import Blob, Blobs, Frame
from netspec.ir.layer import MAX_NUMEL, Layer, Phase
from netspec.ir.net import Node, Parameter, Place
from netspec.ir.scope import Definition
from netspec.ir.types import Shape, TensorType, size

MAX_LAYERS = 20_000
"""Layers of an expanded net."""
MAX_WORK = 600_000
"""What elaboration may cost, in steps of about a microsecond."""
MAX_DEPTH = 128
"""Bodies within bodies, expansions included."""
MAX_AXES = 32
"""Axes of one tensor, as in Caffe."""
MAX_NAME = 128
"""Characters of a name as it is written."""
MAX_FULL_NAME = 1024
"""Characters of a name with those of the expansions around it."""

RULES = ("include", "exclude")
"""Sub-messages that say which phase an item is for."""

_PART = r"[A-Za-z0-9_.\-+@:=()&%~*](?: ?[A-Za-z0-9_.\-+@:=()&%~*])*"
_LABEL = re.compile(rf"{_PART}(?:/{_PART})*")


class Exhausted(Exception):
    """A limit was passed, or too many faults found; it is reported, and the build ends."""


@dataclass
class Lost:
    """Names that items at fault would have made: whoever reads one keeps silent."""

    names: set[str] = field(default_factory=set)
    unnamed: bool = False
    """Whether some of them would have been counted, such as `conv2`."""

    def add(self, item: Item) -> None:
        """Note every name in an item that was not elaborated."""
        pending: list[Item] = [item]
        while pending:
            item = pending.pop()
            if isinstance(item, Element | Call):
                self.names.update([item.label.value] if item.label else ())
                self.unnamed |= item.label is None
            if isinstance(item, Field) and item.key == "top" and isinstance(item.value, String):
                self.names.add(item.value.value)
            for body in (getattr(item, "body", None), getattr(item, "otherwise", None)):
                pending.extend(body.items if body else ())

    def holds(self, name: str) -> bool:
        """Whether a blob of this name may have been lost."""
        parts = name.split("/")
        heads = {"/".join(parts[:i]) for i in range(1, len(parts) + 1)}
        return bool(heads & self.names or parts[-1] in self.names) or (
            self.unnamed and any(part[-1:].isdigit() for part in parts)
        )


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
    expansions: dict[str, Definition] = field(default_factory=dict)
    """The block of each expansion, by full name."""
    parameters: dict[str, tuple[Parameter, Span]] = field(default_factory=dict)
    multipliers: dict[tuple[str, str], tuple[float, Span]] = field(default_factory=dict)
    """What is said of a parameter's lr_mult or decay_mult, by its name and that word."""
    missing: list[tuple[str, str, Span, Frame]] = field(default_factory=list)
    """Bottoms that were not there when they were read: (name, layer, span, frame)."""
    left_out: set[str] = field(default_factory=set)
    """Layers and groups of the other phase."""
    lost: Lost = field(default_factory=Lost)
    label: TensorType | None = None
    """The implicit label, once something reads it."""
    ends: list[Blob] = field(default_factory=list)
    """Blobs that end a chain on purpose: the result of the net and of its heads."""
    faulty: bool = False
    """Whether a fault was reported."""
    _work: int = 0
    _layers: int = 0

    def report(self, error: SpecError, frame: Frame) -> None:
        """Keep a fault, with the expansions around it; the build ends when there are too many."""
        error.trail = (*error.trail, *frame.trail)
        self.diagnostics.error(error)
        self.faulty = True
        if self.diagnostics.full:
            raise Exhausted

    def warn(self, message: str, span: Span, frame: Frame, *, code: str) -> None:
        """Keep a lint."""
        self.diagnostics.warn(SpecError(message, span, code=code, trail=frame.trail))

    def spend(self, item: Item, frame: Frame) -> None:
        """Pay for one item, and for the text of one that holds no others."""
        work = 2
        if isinstance(item, Call):
            work = 20 + (item.span.end - item.span.start) // 8
        elif isinstance(item, Element | Let):
            work = 4 + (item.span.end - item.span.start) // 8
        self._work += work
        if self._work > MAX_WORK:
            message = f"expanding the spec takes more than {MAX_WORK:,} steps"
            self.exhaust(message, item.span, frame)
        if frame.depth > MAX_DEPTH:
            message = f"expansions and bodies are nested more than {MAX_DEPTH} deep"
            self.exhaust(message, item.span, frame)

    def count_layer(self, span: Span, frame: Frame) -> None:
        """Pay for one layer, made or faulty."""
        self._layers += 1
        if self._layers > MAX_LAYERS:
            self.exhaust(f"the spec expands to more than {MAX_LAYERS:,} layers", span, frame)

    def exhaust(self, message: str, span: Span, frame: Frame) -> None:
        """Report a limit and end the build."""
        self.diagnostics.full = True
        self.report(SpecError(message, span, code="limit"), frame)
        raise Exhausted

    def name(self, word: str, label: String | None, span: Span, frame: Frame) -> str:
        """The full name of a layer, a group or an expansion: its label, or its type and count.

        Counts go on over labelled ones and over those of the other phase, so that a name is the
        same in both.
        """
        frame.counts[word] += 1
        if label is None:
            return self.full(f"{word}{frame.counts[word]}", frame, span)
        check_name(label.value, label.span)
        return self.full(label.value, frame, label.span)

    def full(self, name: str, frame: Frame, span: Span | None = None) -> str:
        """A name with those of the expansions around it."""
        full = frame.prefix + name
        if span is not None and len(full) > MAX_FULL_NAME:
            message = f"a name has more than {MAX_FULL_NAME} characters, with the expansions around"
            self.exhaust(message, span, frame)
        return full

    def claim(self, name: str, span: Span, *, labelled: bool) -> None:
        """Take a name; a second taker is a fault."""
        if name in self.names:
            raise SpecError(
                f"the name `{name}` is taken",
                span,
                code="name",
                trail=[("the first one is here", self.names[name])],
                hint=None if labelled else "it was counted: give it a name of its own",
            )
        self.names[name] = span

    def idle(self, body: Message, frame: Frame) -> bool:
        """Whether the items of a body are only counted."""
        return frame.idle or not self.active(body)

    def active(self, body: Message | None) -> bool:
        """Whether `include { phase: … }` and `exclude { … }` leave the item in this phase."""
        if body is None:
            return True
        rules = [i for i in body.items if isinstance(i, Element) and i.word in RULES]
        if not rules:
            return True
        words = {rule.word for rule in rules}
        if len(words) > 1:
            raise SpecError("an item has include or exclude, not both", rules[1].span, code="field")
        matched = [self._matches(rule) for rule in rules]
        return any(matched) is ("include" in words)

    def _matches(self, rule: Element) -> bool:
        if rule.label is not None:
            message = f"`{rule.word}` of a file stands at the top level of a file"
            raise SpecError(message, rule.word_span, code="syntax")
        if rule.body is None:
            message = f"`{rule.word}` takes a phase: `{rule.word} {{ phase: TRAIN }}`"
            raise SpecError(message, rule.span, code="field")
        phases = [self._phase(item, rule.word) for item in rule.body.items]
        return not phases or self.phase in phases

    def _phase(self, item: Item, word: str) -> str:
        if not isinstance(item, Field) or item.key != "phase":
            span = item.key_span if isinstance(item, Field) else item.span
            raise SpecError(f"`{word}` knows `phase` only", span, code="field")
        match item.value:
            case Reference() as value if value.word in tuple(Phase):
                return value.word
            case String() as value if value.value in tuple(Phase):
                return value.value
        raise SpecError("phase must be TRAIN or TEST", item.value.span, code="value")


def check_name(name: str, span: Span) -> None:
    """A name is safe to print, to write into ONNX, and to count with."""
    if len(name) > MAX_NAME:
        message = f"a name has at most {MAX_NAME} characters, not {len(name)}"
        raise SpecError(message, span, code="name")
    if not _LABEL.fullmatch(name):
        message = (
            "a name holds letters, digits, marks such as `_`, `-` or `.`, and `/` between them"
        )
        raise SpecError(f"{message}, not `{name}`", span, code="name")


def check_limits(shape: Shape, what: str, span: Span) -> None:
    """A tensor has not too many axes and values."""
    if len(shape) > MAX_AXES:
        raise SpecError(f"{what} has {len(shape)} axes: at most {MAX_AXES}", span, code="limit")
    if prod(shape) > MAX_NUMEL:
        message = f"{what} of {size(shape)} has more than 2^40 values"
        raise SpecError(message, span, code="limit")


def where(item: Element | Call) -> Span:
    """The part of an item that a message underlines: its word."""
    return item.word_span
