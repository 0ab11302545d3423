"""A parsed file against Caffe's schema: what protobuf's text format would say, located.

pool: 0  kernel_size: 0x3  dim: [1, 3]   →   pool: MAX  kernel_size: 3  dim: 1  dim: 3
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from operator import is_
from typing import Final, TypeAlias

from netspec.caffe.schema import FieldType, MessageType, schema
from netspec.caffe.unknown import Around, close_to, home_of
from netspec.caffe.values import Unfit, canonical, cut, shown
from netspec.diagnostics import MAX_ERRORS, Diagnostics, Span, SpecError
from netspec.grammar.ast import NO_COMMENTS, Element, Expr, Field, Item, List, Message
from netspec.grammar.phrase import VALUE, expression

_NAMES: Final = {"NetParameter": "a Caffe net", "SolverParameter": "a Caffe solver"}
_LAYER_FORM: Final = 'a layer of a Caffe net is written `layer { name: "…"  type: "…"  … }`'

_COMMENT: Final = re.compile(r"#[^\n]*")

_Valued: TypeAlias = Field | Element


def validate_caffe(
    tree: Message,
    message: str,
    *,
    lenient: bool,
    diagnostics: Diagnostics,
    bvlc_only: bool = False,
) -> Message | None:
    """The tree of a Caffe file in canonical form, or None if a fault was reported.

    `message` names what the file holds: `NetParameter` or `SolverParameter`. In the result each
    field holds one value, so that a list `[a, b]` has become two fields; integers are decimal,
    bools `true` or `false`, enum numbers words; spans and comments are the author's.

    With `lenient`, what can be skipped or read in one way only is a warning: unknown fields and
    enum words are dropped, of a field given twice the last one counts, a V1 layer keeps the word
    of its unknown type. `bvlc_only` refuses what forks have added.
    """
    validator = _Validator(diagnostics, lenient, bvlc_only)
    before = diagnostics.reported
    kind = schema().messages[message]
    valid = validator.message(tree, kind, _NAMES.get(message, message))
    return valid if diagnostics.reported == before else None


@dataclass
class _Validator:
    diagnostics: Diagnostics
    lenient: bool
    bvlc_only: bool
    around: list[Around] = field(default_factory=list)
    """The messages around a place, outermost first."""

    def message(self, message: Message, kind: MessageType, what: str) -> Message:
        """The canonical form of a message, called `what` in faults."""
        self.around.append(Around(what, kind, message))
        items: list[Item | None] = []
        given: dict[str, tuple[range, Span]] = {}
        for item in message.items:
            if self.diagnostics.full:
                break
            if not isinstance(item, Field | Element):
                self._error(_foreign(item), item.span, code="syntax")
                continue
            key, span = _named(item)
            known = self._known(kind, key)
            if known is None:
                self._unknown(item, kind, what)
                continue
            if key in given and not known.repeated:
                self._again(f"{what}: `{key}` is given twice", span, given[key][1])
                if not self.lenient:
                    continue
                for index in given[key][0]:
                    items[index] = None
            start = len(items)
            items.extend(self._values(item, known, what))
            given[key] = range(start, len(items)), span
        self._check_required(kind, given, what, message)
        self.around.pop()
        kept = [item for item in items if item is not None]
        if len(kept) == len(message.items) and all(map(is_, kept, message.items)):
            return message
        return Message(tuple(kept), message.span, message.tail, message.head)

    def _known(self, kind: MessageType, key: str) -> FieldType | None:
        known = kind.fields.get(key)
        return None if known and known.fork and self.bvlc_only else known

    def _check_required(
        self, kind: MessageType, given: Container[str], what: str, message: Message
    ) -> None:
        for name in kind.required:
            if name not in given and self._known(kind, name):
                brace = Span(message.span.source, message.span.start, message.span.start + 1)
                self._error(f"{what} needs `{name}`", brace)

    def _again(self, text: str, span: Span, first: Span) -> None:
        """Reports a field that takes one value and has one."""
        trail = [("the first one is here", first)]
        if self.lenient:
            self._warn(f"{text}; the last one counts", span, trail=trail)
        else:
            self._error(text, span, trail=trail)

    def _values(self, item: _Valued, known: FieldType, what: str) -> Iterator[Item]:
        """The item as items of one value each; none if its value is faulty or dropped."""
        of_messages = schema().messages.get(known.type)
        if of_messages is not None:
            return self._messages(item, known, of_messages, what)
        return self._scalars(item, known, what)

    def _messages(
        self, item: _Valued, known: FieldType, kind: MessageType, what: str
    ) -> Iterator[Item]:
        key, span = _named(item)
        if isinstance(item, Element):
            if item.label is not None:
                named = f"the name is a field: `{key} {{ name: {shown(item.label)} … }}`"
                hint = named if "name" in kind.fields else None
                self._error(f"{what}: `{key}` takes no text before its braces", span, hint=hint)
            elif item.body is None:
                self._error(f"{what}: `{key}` takes a message, `{key} {{ … }}`", span)
            else:
                body = self.message(item.body, kind, key)
                if body is not item.body:
                    item = Element(key, None, body, item.span, span, item.comments)
                yield item
            return
        value = item.value
        if isinstance(value, List) and known.repeated:
            yield from self._listed_messages(item, value, kind, what)
        else:
            self._error(f"{what}: `{key}` takes a message, `{key} {{ … }}`", value.span)

    def _listed_messages(
        self, item: Field, value: List, kind: MessageType, what: str
    ) -> Iterator[Item]:
        """`shape: [{ … }, { … }]` as one element for each."""
        self._check_ending(value, f"{what}: `{item.key}`")
        comments = item.comments
        for part in value.elements:
            if not isinstance(part, Message):
                self._error(f"{what}: `{item.key}` takes messages, not {shown(part)}", part.span)
                continue
            body = self.message(part, kind, item.key)
            yield Element(item.key, None, body, part.span, item.key_span, comments)
            comments = NO_COMMENTS

    def _scalars(self, item: _Valued, known: FieldType, what: str) -> Iterator[Item]:
        if isinstance(item, Element):
            read = self._without_colon(item, what)
            if read is None:
                return
            item = read
        parts: Sequence[Expr | Message] = [item.value] if not isinstance(item.value, List) else []
        if isinstance(item.value, List):
            parts = item.value.elements
            if not known.repeated:
                self._error(f"{what}: `{item.key}` takes one value, not a list", item.value.span)
                return
            self._check_ending(item.value, f"{what}: `{item.key}`")
        comments = item.comments
        for part in parts:
            value = self._scalar(part, known, what)
            if value is item.value:
                yield item
            elif value is not None:
                yield Field(item.key, value, item.span, item.key_span, comments)
                comments = NO_COMMENTS

    def _check_ending(self, value: List, subject: str) -> None:
        """Reports `[1, 2,]`, of which the tree does not keep the last comma."""
        if not value.elements:
            return
        span = value.span
        end = value.elements[-1].span.end
        if "," in _COMMENT.sub("", span.source.text[end : span.end]):
            message = f"{subject} has a comma after its last value"
            (self._warn if self.lenient else self._error)(message, Span(span.source, end, span.end))

    def _scalar(self, value: Expr | Message, known: FieldType, what: str) -> Expr | None:
        if isinstance(value, Message):
            self._error(f"{what}: `{known.name}` takes values, not messages", value.span)
            return None
        try:
            return canonical(value, known, bvlc_only=self.bvlc_only)
        except Unfit as unfit:
            text = f"{what}: `{known.name}` {unfit.reason}"
            if self.lenient and unfit.reading is not None:
                self._warn(f"{text}; read as {_said(unfit.reading)}", value.span, code="value")
                return unfit.reading
            if self.lenient and unfit.ignorable:
                instead = f"; {known.default} counts instead" if known.default else "; left out"
                self._warn(f"{text}{instead}", value.span, code="value")
            else:
                self._error(text, value.span, code="value", hint=unfit.hint)
            return None

    def _without_colon(self, item: Element, what: str) -> Field | None:
        """`name "conv1"` lacks its colon, which a lenient reader passes over."""
        key, label = item.word, item.label
        if label is None or item.body is not None:
            message = f"{what}: `{key}` takes a value, `{key}: …`"
            self._error(message, item.word_span)
            return None
        message = f"{what}: `{key}` stands without a colon before its value"
        if not self.lenient:
            self._error(message, item.word_span, hint=f"write `{key}: {shown(label)}`")
            return None
        self._warn(message, item.word_span)
        return Field(key, label, item.span, item.word_span, item.comments)

    def _unknown(self, item: _Valued, kind: MessageType, what: str) -> None:
        key, span = _named(item)
        text = f"{what} has no field `{key}`"
        seen = self.diagnostics.warnings if self.lenient else self.diagnostics.errors
        visible = [name for name in kind.fields if self._known(kind, name)]
        close = close_to(key, visible) if len(seen) < MAX_ERRORS else ""
        if self.lenient:
            self._warn(f"{text}, so it is left out{close}", span)
            return
        hint = home_of(key, self.around)
        close = "" if hint else close
        if hint is None and not close:
            is_layer = kind.name == "NetParameter" and isinstance(item, Element)
            hint = _LAYER_FORM if is_layer else "`--lenient` reads the file without it"
        self._error(f"{text}{close}", span, hint=hint)

    def _error(
        self,
        text: str,
        span: Span,
        *,
        code: str = "field",
        hint: str | None = None,
        trail: Sequence[tuple[str, Span]] = (),
    ) -> None:
        self.diagnostics.error(SpecError(text, span, code=code, hint=hint, trail=trail))

    def _warn(
        self,
        text: str,
        span: Span,
        *,
        code: str = "field",
        trail: Sequence[tuple[str, Span]] = (),
    ) -> None:
        self.diagnostics.warn(SpecError(text, span, code=code, trail=trail))


def _named(item: _Valued) -> tuple[str, Span]:
    """The key of a field or a message, and its place."""
    return (item.key, item.key_span) if isinstance(item, Field) else (item.word, item.word_span)


def _foreign(item: Item) -> str:
    """What is said of an item that the protobuf text format does not have."""
    text = item.span.source.text[item.span.start : item.span.end]
    word = text.split(maxsplit=1)[0].partition("(")[0]
    return f"`{word}` is netspec's own: a Caffe file holds fields and messages only"


def _said(value: Expr) -> str:
    return f"`{cut(expression(value, VALUE))}`"
