"""Makes syntax trees that no author wrote: fields, words, messages, at a place or at none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from netspec.diagnostics import Source, Span
from netspec.grammar.ast import (
    Element,
    Expr,
    Field,
    Item,
    List,
    Message,
    Number,
    Reference,
    Size,
    String,
    Unary,
)
from netspec.grammar.literals import MAX_EXTENT, MAX_EXTENTS

NOWHERE = Span(Source("", ""), 0, 0)
"""The place of what no text holds; a message there is printed on one line if it fits."""


def number(value: float, span: Span = NOWHERE) -> Expr:
    """`0.5`, `3`, `-1`."""
    text = repr(abs(value)).removesuffix(".0")
    made = Number(text, abs(value) if "." in text or "e" in text else int(abs(value)), span)
    return Unary("-", made, span) if value < 0 else made


def word(value: str, span: Span = NOWHERE) -> Reference:
    """`MAX`, `true`."""
    return Reference((value,), span)


def worded(item: Field, words: Sequence[str]) -> Field:
    """`pool: "MAX"` as `pool: MAX`, where that is one of the words; other texts stay in quotes."""
    if not isinstance(item.value, String) or item.value.value not in words:
        return item
    return replace(item, value=word(item.value.value, item.value.span))


def scalar(value: Any, span: Span = NOWHERE) -> Expr:
    """A number, a text in quotes, or true or false."""
    if isinstance(value, bool):
        return word("true" if value else "false", span)
    return String(value, span) if isinstance(value, str) else number(value, span)


def listed(values: Sequence[Any], span: Span = NOWHERE) -> Expr | List:
    """`3` for one value, `3x5` for a size, else `[0, 1]`."""
    if len(values) == 1:
        return value(values[0], span)
    if is_size(values):
        return Size(tuple(values), span)
    return List(tuple(scalar(v, span) for v in values), span)


def is_size(values: Sequence[Any]) -> bool:
    """Whether values can be written as `3x224x224`."""
    whole = all(isinstance(v, int) and not isinstance(v, bool) for v in values)
    return whole and 0 < len(values) <= MAX_EXTENTS and all(0 < v <= MAX_EXTENT for v in values)


def value(given: Any, span: Span = NOWHERE) -> Expr | List:
    """The tree of a plain value."""
    return listed(given, span) if isinstance(given, list | tuple) else scalar(given, span)


def field(key: str, given: Expr | List, span: Span = NOWHERE) -> Field:
    """`key: value`."""
    return Field(key, given, span, span)


def message(key: str, items: Sequence[Item], span: Span = NOWHERE) -> Element:
    """`key { … }`, with its braces even if it is empty."""
    return Element(key, None, Message(tuple(items), NOWHERE), span, span)


def only(phase: str) -> Element:
    """`include { phase: TRAIN }`."""
    return message("include", [field("phase", word(phase))])


def element(key: str, label: str | None, items: Sequence[Item], span: Span = NOWHERE) -> Element:
    """`key "label" { … }`; without items, without braces."""
    body = Message(tuple(items), NOWHERE) if items else None
    return Element(key, None if label is None else String(label, span), body, span, span)
