"""A message's items become a validated model, every fault pointing at the text that caused it."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import ValidationError

from netspec.diagnostics import Span, SpecError, suggest
from netspec.grammar.ast import Element, Expr, Field, List, Message, Reference
from netspec.ir.expression import Environment, Poisoned, Word, evaluate, unknown
from netspec.ir.fields import Fields, shown

Model = TypeVar("Model", bound=Fields)


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
    return Kind(tuple in seen, tuple(words), str in seen, messages[0] if messages else None)


def validate(
    model: type[Model],
    items: Sequence[Field | Element],
    environment: Environment,
    *,
    what: str,
    span: Span,
    report: Callable[[SpecError], None],
    also: Iterable[str] = (),
) -> Model | None:
    """`items` as a `model`, or None if a fault was reported.

    `what` names the message in faults (`conv`); `span` is shown for what is missing; `also` are
    fields that are known, but read elsewhere. Raises Poisoned if a value hangs on an earlier fault.
    """
    reader = _Reader(environment, report, tuple(also))
    written = reader.read(model, items, what)
    try:
        valid = model.model_validate(_data(model, written))
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            if not _may_follow(detail, reader):
                reader.note(_translate(detail, written, what, span))
        valid = None
    if reader.poisoned:
        raise Poisoned
    return None if reader.faults else valid


def _may_follow(detail: Any, reader: _Reader) -> bool:
    """Whether a finding may be the consequence of what is wrong with a field itself."""
    if detail["type"] == "missing":
        name = str(detail["loc"][-1])
        return name in reader.failed or any(f"`{name}`" in f.message for f in reader.faults)
    return bool(reader.failed) and not detail["loc"]


@dataclass
class _Reader:
    """Reads the values of fields, and keeps the faults it found in them."""

    environment: Environment
    report: Callable[[SpecError], None]
    also: tuple[str, ...]
    faults: list[SpecError] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)
    """The keys of fields that have no value."""
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
        key, _ = _named(item)
        kind = kind_of(model, key)
        if isinstance(item, Element) or _is_messages(item.value):
            for message in _messages(item, kind, key, what):
                assert kind.message is not None
                path = f"{what}: {key}" if ":" not in what else f"{what}.{key}"
                inner = self.read(kind.message, _only_fields(message, key), path)
                entry.add(_data(kind.message, inner), message.span, within=inner)
            return
        if kind.message is not None:
            message = f"{what}: `{key}` takes a message, `{key} {{ … }}`"
            raise SpecError(message, item.value.span, code="field")
        value = evaluate(item.value, self.environment)
        _check_ambiguous(kind, key, value, item.value)
        parts = item.value.elements if isinstance(item.value, List) else ()
        for one, expr in zip(value, parts, strict=True) if parts else [(value, item.value)]:
            self._check_word(kind, one, expr.span, siblings)
        entry.add(value, item.value.span, tuple(part.span for part in parts))

    def _check_word(self, kind: Kind, value: Any, span: Span, siblings: Container[str]) -> None:
        """A bare word must stand for something: an enum word, or text."""
        if not isinstance(value, Word) or kind.words or kind.text:
            return
        error = unknown(value, span, getattr(self.environment, "known", ()))
        if str(value) in siblings:
            error.hint = f"`{value}` is a field, not a name; name it first: `let {value} = …`"
        raise error


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
            message = f"{what}: `{key}` takes a message, `{key} {{ … }}`"
            raise SpecError(message, item.span, code="field")
        return [item.body]
    assert isinstance(item.value, List)
    messages = [e for e in item.value.elements if isinstance(e, Message)]
    if len(messages) < len(item.value.elements):
        other = next(e for e in item.value.elements if not isinstance(e, Message))
        raise SpecError(f"{what}: `{key}` takes messages only", other.span, code="field")
    return messages


def _only_fields(message: Message, key: str) -> list[Field | Element]:
    fields: list[Field | Element] = []
    for item in message.items:
        if not isinstance(item, Field | Element):
            raise SpecError(f"`{key}` holds fields only", item.span, code="field")
        fields.append(item)
    return fields


def _check_ambiguous(kind: Kind, key: str, value: Any, expr: Expr | List) -> None:
    """A name in scope must not be a word of the field as well."""
    if not isinstance(expr, Reference) or expr.word not in kind.words:
        return
    if isinstance(value, Word) and value.span == expr.span:
        return
    raise SpecError(
        f"`{expr.word}` is a name in scope and a word of `{key}`",
        expr.span,
        code="name",
        hint=f'for the word, write "{expr.word}" in quotes; else give the name another name',
    )


def _data(model: type[Fields], written: Mapping[str, Written]) -> dict[str, Any]:
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


def _translate(
    detail: Any, written: Mapping[str, Written], what: str, span: Span
) -> SpecError:
    """Pydantic's finding in our words, at the place in the text."""
    location = [part for part in detail["loc"] if not isinstance(part, str) or part.isidentifier()]
    place, owner = _locate(location, written, span)
    path = [part for part in location if isinstance(part, str)]
    match detail["type"]:
        case "missing":
            return SpecError(f"{owner or what} needs `{path[-1]}`", place, code="field")
        case "value_error":
            reason = str(detail["ctx"]["error"])
            if not path:
                place = _mentioned(reason, written) or place
        case "literal_error":
            words = _words(detail)
            reason = f"must be {_either(words)}, not {shown(detail['input'])}"
            reason += suggest(str(detail["input"]), words)
        case "too_short" | "too_long" | "tuple_type":
            reason = f"takes height and width, not {shown(detail['input'])}"
        case _:
            reason = f"{detail['msg']}, not {shown(detail['input'])}"
    subject = f"{what}: `{'.'.join(path)}` {reason}" if path else f"{what}: {reason}"
    return SpecError(subject, place, code="value")


def _mentioned(reason: str, written: Mapping[str, Written]) -> Span | None:
    """The place of the last field, or value, of a message that a finding about it speaks of."""
    spoken = set(re.findall(r"\w+", reason))
    places = [
        span
        for key, entry in written.items()
        for value, span in zip(entry.values, entry.spans, strict=True)
        if key in spoken or (isinstance(value, str) and value in spoken)
    ]
    return max(places, key=lambda span: span.start, default=None)


def _locate(
    location: Sequence[Any], written: Mapping[str, Written], span: Span
) -> tuple[Span, str | None]:
    """The place of the deepest field on the path that the author wrote, and its name."""
    owner: str | None = None
    current: Mapping[str, Written] | None = written
    steps = iter(range(len(location)))
    for i in steps:
        part = location[i]
        if current is None or not isinstance(part, str) or part not in current:
            break
        entry = current[part]
        if not entry.spans:
            break
        index = 0
        following = location[i + 1] if i + 1 < len(location) else None
        if isinstance(following, int):
            index = following
            next(steps, None)
        single = len(entry.spans) == 1
        span, owner = entry.place(index), part
        current = entry.within[0 if single else min(index, len(entry.within) - 1)]
    return span, owner


def _words(detail: Any) -> list[str]:
    return [w.strip("'") for w in detail["ctx"]["expected"].replace(" or ", ", ").split(", ")]


def _either(words: Sequence[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
