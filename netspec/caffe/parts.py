"""A layer in Caffe's current form, taken apart: `layer { name: …  type: …  … }`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from netspec.diagnostics import Span
from netspec.grammar.ast import (
    NO_COMMENTS,
    Element,
    Field,
    Item,
    List,
    Number,
    Reference,
    String,
    Unary,
)


@dataclass(frozen=True)
class CaffeLayer:
    """What a `layer { … }` says, and where."""

    element: Element
    name: String | None
    type: String | None

    @staticmethod
    def of(element: Element) -> CaffeLayer:
        """The parts of a layer; the first of each, if it says one twice."""
        layer = CaffeLayer(element, None, None)
        words = {f.key: f.value for f in reversed(layer.fields) if isinstance(f.value, String)}
        return CaffeLayer(element, words.get("name"), words.get("type"))

    @cached_property
    def items(self) -> tuple[Field | Element, ...]:
        """Its fields and blocks; a Caffe file holds nothing else."""
        body = self.element.body
        return tuple(i for i in (body.items if body else ()) if isinstance(i, Field | Element))

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        return tuple(item for item in self.items if isinstance(item, Field))

    @property
    def span(self) -> Span:
        """Where to say something about it: its type, or else its word."""
        return self.type.span if self.type else self.element.word_span

    @property
    def word(self) -> str:
        """Its type, as it is written."""
        return self.type.value if self.type else ""

    @property
    def label(self) -> str:
        """Its name; empty if it has none."""
        return self.name.value if self.name else ""

    @cached_property
    def bottoms(self) -> tuple[str, ...]:
        return tuple(strings(self.fields, "bottom"))

    @cached_property
    def tops(self) -> tuple[str, ...]:
        return tuple(strings(self.fields, "top"))

    def block(self, name: str) -> tuple[Field | Element, ...]:
        """The items of the block `name`, such as `convolution_param`; of all, if there are more."""
        found = [i for i in self.items if isinstance(i, Element) and i.word == name and i.body]
        return tuple(
            item
            for element in found
            for item in (element.body.items if element.body else ())
            if isinstance(item, Field | Element)
        )


def strings(items: tuple[Field, ...], key: str) -> Iterator[str]:
    """The strings that the fields `key` hold."""
    for item in items:
        if item.key == key:
            for value in values(item):
                if isinstance(value, str):
                    yield value


def values(item: Field) -> Iterator[object]:
    """The plain values of a field: those of its list, or its one."""
    listed = item.value.elements if isinstance(item.value, List) else (item.value,)
    for value in listed:
        yield literal(value)


def literal(value: object) -> object:
    """The plain value of a literal: a number, a text, true or false; None for anything else."""
    match value:
        case Number():
            return value.value
        case Unary(operator="-", operand=Number() as number):
            return -number.value
        case String():
            return value.value
        case Reference(path=("true",)):
            return True
        case Reference(path=("false",)):
            return False
        case Reference():
            return value.word
    return None


def first(items: tuple[Field | Element, ...], key: str) -> object:
    """The plain value of the first field `key`; None if there is none."""
    for item in items:
        if isinstance(item, Field) and item.key == key:
            return next(values(item), None)
    return None


def lost_comments(original: Iterable[Item], kept: Iterable[Item]) -> tuple[str, ...]:
    """The comments of items that none of those made of them carries, in order."""
    carried = {id(item.comments) for item in _within(kept)}
    lines: list[str] = []
    for item in _within(original):
        if id(item.comments) not in carried or item.comments == NO_COMMENTS:
            lines += [*item.comments.before, item.comments.after or ""]
        if isinstance(item, Element) and item.body is not None and item.word.endswith("_param"):
            lines += [item.body.head or "", *item.body.tail]
    return tuple(line for line in lines if line.strip())


def _within(items: Iterable[Item]) -> Iterator[Field | Element]:
    """Fields and messages, each before what it holds; nesting is bounded by the parser."""
    for item in items:
        if isinstance(item, Field | Element):
            yield item
        if isinstance(item, Element) and item.body is not None:
            yield from _within(item.body.items)
