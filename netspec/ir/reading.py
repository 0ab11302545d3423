"""Reads the fields of a message as they were written: each value evaluated, with its place."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from netspec.diagnostics import Span, SpecError, suggest
from netspec.grammar.ast import Element, Expr, Field, List, Message, Reference
from netspec.ir.expression import Environment, Poisoned, UnknownName, Word, evaluate
from netspec.ir.fields import Fields


@dataclass
class Written:
    """One field as it was written: each value, its place, the places of its elements, and what a
    sub-message holds."""

    values: list[Any] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    elements: list[tuple[Span, ...]] = field(default_factory=list)
    """For a value that is a list, the place of each element."""
    within: list[Mapping[str, Written] | None] = field(default_factory=list)

    def add(
        self,
        value: Any,
        span: Span,
        elements: tuple[Span, ...] = (),
        within: Mapping[str, Written] | None = None,
    ) -> None:
        self.values.append(value)
        self.spans.append(span)
        self.elements.append(elements)
        self.within.append(within)

    def place(self, index: int) -> Span:
        """Where the element of this index was written, once all values make one list."""
        flat = [
            place
            for value, span, elements in zip(self.values, self.spans, self.elements, strict=True)
            for place in elements or [span] * (len(value) if isinstance(value, list) else 1)
        ]
        return flat[index] if index < len(flat) else self.spans[0]


@dataclass(frozen=True, slots=True)
class Kind:
    """What a field's annotation admits."""

    repeated: bool
    words: tuple[str, ...]
    """The enum words it takes."""
    text: bool
    """Whether any string will do."""
    message: type[Fields] | None
    """The model of the sub-message it takes."""


@cache
def kind_of(model: type[Fields], name: str) -> Kind:
    """What the field `name` of `model` admits."""
    words: list[str] = []
    seen: set[Any] = set()

    def walk(annotation: Any) -> None:
        origin = get_origin(annotation)
        if origin is Literal:
            words.extend(a for a in get_args(annotation) if isinstance(a, str))
        elif origin in (Union, UnionType, tuple, Annotated):
            if origin is tuple:
                seen.add(tuple)
            for argument in get_args(annotation):
                walk(argument)
        elif annotation not in (NoneType, Ellipsis):
            seen.add(annotation)

    walk(model.model_fields[name].annotation)
    messages = [t for t in seen if isinstance(t, type) and issubclass(t, Fields)]
    message = messages[0] if messages else None
    return Kind(tuple in seen, tuple(words), str in seen, message)


@dataclass
class Reader:
    """Reads the values of fields, and keeps the faults it found in them."""

    environment: Environment
    report: Callable[[SpecError], None]
    also: tuple[str, ...]
    faults: list[SpecError] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)
    """The keys of fields that have no value."""
    foreign: bool = False
    """Whether fields stand in a message of Caffe's that is not known here."""
    poisoned: bool = False

    def note(self, error: SpecError) -> None:
        self.faults.append(error)
        self.report(error)

    def read(
        self, model: type[Fields], items: Sequence[Field | Element], what: str
    ) -> dict[str, Written]:
        """The fields that the model has, by key; faults are noted."""
        written: dict[str, Written] = {}
        siblings = {item.key for item in items if isinstance(item, Field)}
        for item in items:
            key, key_span = _named(item)
            try:
                if key not in model.model_fields:
                    raise self._no_field(model, key, key_span, what)
                entry = written.setdefault(key, Written())
                if entry.values and not kind_of(model, key).repeated:
                    trail = [("the first one is here", entry.spans[0])]
                    message = f"{what}: `{key}` is given twice"
                    raise SpecError(message, key_span, code="field", trail=trail)
                self._read_one(model, item, what, siblings, entry)
            except SpecError as error:
                self.failed.add(key)
                self.note(error)
            except Poisoned:
                self.failed.add(key)
                self.poisoned = True
        return written

    def _no_field(self, model: type[Fields], key: str, span: Span, what: str) -> SpecError:
        known = suggest(key, [*model.model_fields, *self.also])
        hint = None
        if key.endswith("_param"):
            self.foreign = True
            hint = f"this is Caffe's form: write the fields of `{key}` without it"
        elif not known and model.model_fields:
            hint = f"its fields: {', '.join(model.model_fields)}"
        return SpecError(f"{what} has no field `{key}`{known}", span, code="field", hint=hint)

    def _read_one(
        self,
        model: type[Fields],
        item: Field | Element,
        what: str,
        siblings: Container[str],
        entry: Written,
    ) -> None:
        key, key_span = _named(item)
        kind = kind_of(model, key)
        if isinstance(item, Element) or _is_messages(item.value):
            for message in _messages(item, kind, key, what):
                assert kind.message is not None, "only a kind with a message takes messages"
                path = f"{what}: {key}" if ":" not in what else f"{what}.{key}"
                inner = self.read(kind.message, _only_fields(message, key), path)
                # A body that upgrade has made stands nowhere; what it came from does.
                place = message.span if message.span.source.text else key_span
                entry.add(data_of(inner), place, within=inner)
            return
        if kind.message is not None and not kind.words:
            raise _wants_message(what, key, item.value.span)
        try:
            value = evaluate(item.value, self.environment)
            _check_words(kind, key, value, item.value)
        except UnknownName as error:
            if error.word in siblings:
                word = error.word
                error.hint = f"`{word}` is a field, not a name; above, `let {word} = …` names it"
            raise
        parts = item.value.elements if isinstance(item.value, List) else ()
        entry.add(value, item.value.span, tuple(part.span for part in parts))


def _named(item: Field | Element) -> tuple[str, Span]:
    """The key of a field or a sub-message, and its place."""
    return (item.key, item.key_span) if isinstance(item, Field) else (item.word, item.word_span)


def _is_messages(value: object) -> bool:
    return isinstance(value, List) and any(isinstance(e, Message) for e in value.elements)


def _messages(item: Field | Element, kind: Kind, key: str, what: str) -> list[Message]:
    if kind.message is None:
        message = f"{what}: `{key}` takes a value, `{key}: …`"
        raise SpecError(message, _named(item)[1], code="field")
    if isinstance(item, Element):
        if item.label is not None or item.body is None:
            raise _wants_message(what, key, item.span)
        return [item.body]
    assert isinstance(item.value, List)
    messages = [e for e in item.value.elements if isinstance(e, Message)]
    if len(messages) < len(item.value.elements):
        message = f"{what}: `{key}` takes messages, not values"
        raise SpecError(message, item.value.span, code="field")
    return messages


def _wants_message(what: str, key: str, span: Span) -> SpecError:
    return SpecError(f"{what}: `{key}` takes a message, `{key} {{ … }}`", span, code="field")


def _only_fields(message: Message, key: str) -> list[Field | Element]:
    fields: list[Field | Element] = []
    for item in message.items:
        if not isinstance(item, Field | Element):
            raise SpecError(f"`{key}` holds fields only", item.span, code="field")
        fields.append(item)
    return fields


def _check_words(kind: Kind, key: str, value: Any, expr: Expr | List) -> None:
    """A bare word must stand for an enum word or text; a name must not be an enum word as well."""
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, Word) and not kind.words and not kind.text:
            raise UnknownName(one, expr.span if one is value else one.span)
    if not isinstance(expr, Reference) or expr.word not in kind.words:
        return
    if not isinstance(value, Word) or value.span != expr.span:
        raise SpecError(
            f"`{expr.word}` is a name in scope and a word of `{key}`",
            expr.span,
            code="name",
            hint=f'for the word, write "{expr.word}" in quotes; else give the name another name',
        )


def data_of(written: Mapping[str, Written]) -> dict[str, Any]:
    """Plain data for the model: a repeated field becomes a list."""
    data: dict[str, Any] = {}
    for key, entry in written.items():
        if not entry.values:
            continue
        if len(entry.values) == 1:
            (data[key],) = entry.values
        else:
            flat = [v if isinstance(v, list) else [v] for v in entry.values]
            data[key] = [x for part in flat for x in part]
    return data
