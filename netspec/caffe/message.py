"""A protobuf message as a syntax tree: how its fields are read, and how new ones are made.

A repeated field is read alike as `key: 1  key: 2` and as `key: [1, 2]`. A new node has the span of
what it came from, so that a fault in it points into the text of the author. Values of a wrong kind
are passed over: to report them is the schema's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TypeAlias

from netspec.diagnostics import Span
from netspec.grammar.ast import (
    Comments,
    Element,
    Expr,
    Field,
    Item,
    List,
    Message,
    Number,
    Reference,
    String,
    Unary,
)

Text: TypeAlias = String | Reference
"""A text, quoted or not: an enum word is a `Reference`."""

Items: TypeAlias = tuple[Item, ...]


def key(item: Item) -> str:
    """The name of the protobuf field that an item sets; '' for what only native text has."""
    match item:
        case Field(key=name) | Element(word=name):
            return name
    return ""


def values(message: Message, name: str) -> Iterator[Expr]:
    """The plain values of a field, those of short lists among them."""
    for found in message.fields(name):
        match found:
            case Field(value=List(elements=elements)):
                yield from (value for value in elements if not isinstance(value, Message))
            case Field(value=plain) if not isinstance(plain, List):
                yield plain


def single(item: Field) -> Iterator[Field]:
    """`key: [1, 2]` → `key: 1  key: 2`, each where its value stands; other fields as they are."""
    if not isinstance(item.value, List):
        yield item
        return
    for value in item.value.elements:
        if not isinstance(value, Message):
            yield Field(item.key, value, value.span, item.key_span)


def spread(items: Iterable[Item]) -> Iterator[Item]:
    """`key: [{ … }, { … }]` → `key { … }  key { … }`; other items as they are."""
    for item in items:
        match item:
            case Field(value=List(elements=(Message(), *_) as bodies)):
                for body in bodies:
                    if isinstance(body, Message):
                        yield Element(item.key, None, body, body.span, item.key_span)
            case _:
                yield item


def messages(message: Message, name: str) -> Iterator[Message]:
    """The bodies of a field whose values are messages."""
    for item in spread(message.fields(name)):
        if isinstance(item, Element) and item.body is not None:
            yield item.body


def text(value: Expr | List) -> str | None:
    """What a quoted text or an enum word says."""
    match value:
        case String(value=said):
            return said
        case Reference():
            return value.word
    return None


def texts(message: Message, name: str) -> list[tuple[str, Span]]:
    """The texts of a field, and where each stands."""
    found = ((text(value), value.span) for value in values(message, name))
    return [(said, span) for said, span in found if said is not None]


def number(value: Expr | List) -> int | float | None:
    """What a signed number says; `inf` and `nan` are words."""
    match value:
        case Number(value=plain):
            return plain
        case Unary(operator="-", operand=operand):
            size = number(operand)
            return None if size is None else -size
        case Reference(path=(word,)) if word.lower() in {"inf", "infinity", "nan"}:
            return float(word)
    return None


def numbers(message: Message, name: str) -> list[int | float]:
    """The numbers of a field."""
    found = (number(value) for value in values(message, name))
    return [plain for plain in found if plain is not None]


def name_of(layer: Element) -> str:
    """A layer's `name`, '' if it has none."""
    return next((said for said, _ in texts(body(layer), "name")), "")


def type_of(layer: Element) -> str:
    """A layer's `type`, '' if it has none."""
    return next((said for said, _ in texts(body(layer), "type")), "")


def body(element: Element) -> Message:
    """What stands between the braces; nothing if there are none."""
    return Message((), element.span) if element.body is None else element.body


def with_items(element: Element, items: Iterable[Item]) -> Element:
    """The element with other items between its braces."""
    return replace(element, body=replace(body(element), items=tuple(items)))


def new_element(name: str, items: Iterable[Item], origin: Span) -> Element:
    """`name { items }`, made from what stands at `origin`."""
    return Element(name, None, Message(tuple(items), origin), origin, origin)


def renamed(item: Item, name: str) -> Item:
    """The same value under the name of another field, with its comments."""
    match item:
        case Field():
            return replace(item, key=name)
        case Element():
            return replace(item, word=name)
    return item


def commented(item: Item, before: tuple[str, ...]) -> Item:
    """The item with more lines of comment above it."""
    if not before:
        return item
    return replace(item, comments=Comments(before + item.comments.before, item.comments.after))
