"""Syntax tree to canonical text: `to_text(message)`, the formatter behind `netspec fmt`.

An item stands on one line if it fits in 100 columns, no comment stands inside it, and its author
did not open its braces; otherwise its own items stand below it, indented by 2. Items that the
author wrote side by side stay so, as far as they fit, and so stand those that no author laid out.
Blocks always take several lines.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, assert_never

from netspec.grammar import ast, phrase

WIDTH: Final = 100
_KEYWORDS = {"let", "block", "repeat", "when", "as", "if", "else", "and", "or", "not"}


def to_text(message: ast.Message) -> str:
    """The text of a file: `parse` gives the same tree again, and its text is the same.

    Empty lines between items are kept, one at most, where the items' spans show them.
    """
    writer = _Writer()
    writer.items(message, "")
    return "".join(f"{line}\n" for line in writer.lines)


class _Writer:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self._flat: dict[int, str | None] = {}

    def items(self, message: ast.Message, pad: str) -> None:
        """The items of a message, and the comments around them."""
        previous: ast.Item | None = None
        free = bool(pad) and not message.span.source.text
        for item in message.items:
            if previous is None or not self._beside(previous, item, free):
                if previous and _empty_line(previous, item.span.start):
                    self.lines.append("")
                self._comments(item.comments.before, pad)
                self._item(item, pad)
            if item.comments.after is not None:
                self.lines[-1] += f"  {_comment(item.comments.after)}"
            previous = item
        if previous and message.tail and _empty_line(previous, message.span.end):
            self.lines.append("")
        self._comments(message.tail, pad)

    def _beside(self, previous: ast.Item, item: ast.Item, free: bool) -> bool:
        """Put an item on the line of the one before it, if the author did, or nobody, and it fits.

        `free` says that nobody has laid out the message around.
        """
        flat = self.flat(item)
        if flat is None or self.flat(previous) is None:
            return False
        if not free and not _same_line(previous, item):
            return False
        if previous.comments.after is not None or item.comments.before:
            return False
        if len(self.lines[-1]) + 2 + len(flat) > WIDTH:
            return False
        self.lines[-1] += f"  {flat}"
        return True

    def _comments(self, comments: Iterable[str], pad: str) -> None:
        self.lines += [pad + _comment(text) if text else "" for text in comments]

    def _item(self, item: ast.Item, pad: str) -> None:
        flat = self.flat(item)
        if flat is not None and len(pad) + len(flat) <= WIDTH:
            self.lines.append(pad + flat)
            return
        if isinstance(item, ast.Field | ast.Let) and isinstance(item.value, ast.List):
            self._list(_opening(item), item.value, pad)
        elif (body := _body(item)) is None:
            self.lines.append(pad + _plain(item))
        else:
            self._braces(pad + _opening(item), body, pad)
            if isinstance(item, ast.When) and item.otherwise is not None:
                self._braces(self.lines.pop() + " else", item.otherwise, pad)

    def _braces(self, opening: str, body: ast.Message, pad: str) -> None:
        head = "" if body.head is None else f"  {_comment(body.head)}"
        self.lines.append(f"{opening} {{{head}")
        self.items(body, pad + "  ")
        self.lines.append(pad + "}")

    def _list(self, opening: str, value: ast.List, pad: str) -> None:
        """A list over several lines: messages one by one, plain values as many as fit."""
        self.lines.append(f"{pad}{opening} [")
        inner = pad + "  "
        fresh = True
        for element in value.elements:
            text = self._flat_element(element)
            if text is None:
                assert isinstance(element, ast.Message)
                self.lines.append(inner + "{")
                self.items(element, inner + "  ")
                self.lines.append(inner + "},")
                fresh = True
            elif fresh or len(self.lines[-1]) + len(text) + 2 > WIDTH:
                self.lines.append(f"{inner}{text},")
                fresh = isinstance(element, ast.Message)
            else:
                self.lines[-1] += f" {text},"
        self.lines[-1] = self.lines[-1].removesuffix(",")
        self.lines.append(pad + "]")

    def flat(self, item: ast.Item) -> str | None:
        """The item on one line, without the comments around it, or None if it cannot be.

        Each item is tried once only, however deep it is nested.
        """
        key = id(item)
        if key not in self._flat:
            text = self._flat_item(item)
            self._flat[key] = text if text is not None and len(text) <= WIDTH else None
        return self._flat[key]

    def _flat_item(self, item: ast.Item) -> str | None:
        if isinstance(item, ast.Block):
            return None
        if isinstance(item, ast.Field | ast.Let) and isinstance(item.value, ast.List):
            parts = _within(map(self._flat_element, item.value.elements))
            return None if parts is None else f"{_opening(item)} [{', '.join(parts)}]"
        body = _body(item)
        if body is None:
            return _plain(item)
        text = _joined(_opening(item), self._flat_body(body))
        if isinstance(item, ast.When) and item.otherwise is not None:
            return _joined(_joined(text, "else"), self._flat_body(item.otherwise))
        return text

    def _flat_element(self, element: ast.Expr | ast.Message) -> str | None:
        if isinstance(element, ast.Message):
            return self._flat_body(element)
        return phrase.expression(element, phrase.VALUE)

    def _flat_body(self, body: ast.Message) -> str | None:
        if not body.items:
            return "{}" if not body.tail and body.head is None else None
        if (
            body.tail
            or body.head is not None
            or any(i.comments != ast.NO_COMMENTS for i in body.items)
            or _opened(body)
        ):
            return None
        parts = _within(map(self.flat, body.items))
        return None if parts is None else f"{{ {'  '.join(parts)} }}"


def _within(parts: Iterable[str | None]) -> list[str] | None:
    """The parts, or None as soon as one is missing or all are too long for a line."""
    taken: list[str] = []
    width = 0
    for part in parts:
        width += len(part) + 2 if part is not None else 0
        if part is None or width > WIDTH:
            return None
        taken.append(part)
    return taken


def _joined(opening: str | None, rest: str | None) -> str | None:
    return None if opening is None or rest is None else f"{opening} {rest}"


def _opening(item: ast.Item) -> str:
    """What stands before the brace or the value of an item."""
    match item:
        case ast.Field():
            return f"{item.key}:"
        case ast.Let():
            return f"let {item.name} ="
        case ast.Element():
            word = f"{item.word}:" if item.word in _KEYWORDS else item.word
            return f"{word} {phrase.string(item.label.value)}" if item.label else word
        case ast.Call():
            call = f"{item.block}({', '.join(map(phrase.argument, item.arguments))})"
            return f"{call} {phrase.string(item.label.value)}" if item.label else call
        case ast.Block():
            return f"block {item.name}({', '.join(map(phrase.formal, item.formals))})"
        case ast.Repeat():
            index = f" as {item.index}" if item.index else ""
            return f"repeat {phrase.expression(item.count, phrase.VALUE)}{index}"
        case ast.When():
            return f"when {phrase.expression(item.test, phrase.TEST)}"
        case _:
            assert_never(item)


def _body(item: ast.Item) -> ast.Message | None:
    return None if isinstance(item, ast.Field | ast.Let | ast.Call) else item.body


def _plain(item: ast.Item) -> str:
    """An item without braces or list."""
    if isinstance(item, ast.Field | ast.Let) and not isinstance(item.value, ast.List):
        return f"{_opening(item)} {phrase.expression(item.value, phrase.VALUE)}"
    return _opening(item)


def _comment(text: str) -> str:
    """`## title` and a bare `#` keep their form."""
    return f"#{text}" if text.startswith("#") else f"# {text}".rstrip()


def _opened(body: ast.Message) -> bool:
    """Whether the author began the items of a message on a line below its brace."""
    text = body.span.source.text
    return text.find("\n", body.span.start, body.items[0].span.start) >= 0


def _same_line(previous: ast.Item, item: ast.Item) -> bool:
    """Whether the author began an item on the line where the one before it ends."""
    text = previous.span.source.text
    if not text or item.span.source is not previous.span.source:
        return False
    if item.span.start < previous.span.end:  # a pass has moved it
        return False
    return text.find("\n", previous.span.end, item.span.start) < 0


def _empty_line(previous: ast.Item, end: int) -> bool:
    """Whether the author left the line below an item empty; `end` is where the next thing is."""
    text, begin = previous.span.source.text, previous.span.end
    line = text.find("\n", begin, end)
    following = text.find("\n", line + 1, end) if line >= 0 else -1
    return following >= 0 and not text[line + 1 : following].strip()
