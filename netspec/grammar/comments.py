"""Comments to the items they stand at: above, behind, or at the ends of a message."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace

from netspec.grammar import ast
from netspec.grammar.tokens import Comment


def attach(message: ast.Message, comments: Sequence[Comment]) -> ast.Message:
    """The same tree with every comment that lies inside the message; `comments` are in order.

    Recursion goes as deep as messages nest, which the parser has bounded.
    """
    if not comments:
        return message
    text = message.span.source.text
    items: list[ast.Item] = []
    head: str | None = None
    previous, at = message.span.start, 0
    for item in message.items:
        begin, end = _before(comments, item.span.start), _before(comments, item.span.end)
        gap = comments[at:begin]
        if _is_behind(text, previous, gap, in_message=bool(items) or _is_braced(message)):
            head = _behind(items, gap[0], head)
            gap = gap[1:]
        items.append(_adorn(item, _lines(text, gap, item.span.start), comments[begin:end]))
        previous, at = item.span.end, end
    gap = comments[at:]
    if _is_behind(text, previous, gap, in_message=bool(items) or _is_braced(message)):
        head = _behind(items, gap[0], head)
        gap = gap[1:]
    return replace(message, items=tuple(items), head=head, tail=_lines(text, gap, None))


def _before(comments: Sequence[Comment], offset: int) -> int:
    """How many comments start before an offset."""
    return bisect_left(comments, offset, key=lambda comment: comment.start)


def _is_braced(message: ast.Message) -> bool:
    """Whether it is a message in braces, not a whole file."""
    return message.span.source.text.startswith(("{", "<"), message.span.start)


def _is_behind(text: str, previous: int, gap: Sequence[Comment], *, in_message: bool) -> bool:
    """Whether the first comment of a gap stands on the line where the gap begins."""
    return in_message and bool(gap) and text.find("\n", previous, gap[0].start) < 0


def _behind(items: list[ast.Item], comment: Comment, head: str | None) -> str | None:
    """Gives a comment to the last item or, if there is none, to the head, which it returns."""
    if not items:
        return comment.text
    items[-1] = replace(items[-1], comments=replace(items[-1].comments, after=comment.text))
    return head


def _lines(text: str, comments: Sequence[Comment], end: int | None) -> tuple[str, ...]:
    """The comments' texts, with '' where an empty line follows."""
    lines: list[str] = []
    following = [comment.start for comment in comments[1:]]
    following += [] if end is None or not comments else [end]
    for i, comment in enumerate(comments):
        lines.append(comment.text)
        if i < len(following) and text.count("\n", comment.end, following[i]) > 1:
            lines.append("")
    return tuple(lines)


def _adorn(item: ast.Item, above: tuple[str, ...], inside: Sequence[Comment]) -> ast.Item:
    """The item with the comments above it and inside it; those outside its bodies go above too."""
    if not inside:
        return replace(item, comments=ast.Comments(above)) if above else item

    def claimed(body: ast.Message) -> ast.Message:
        nonlocal inside
        begin, end = _before(inside, body.span.start), _before(inside, body.span.end)
        own = inside[begin:end]
        inside = [*inside[:begin], *inside[end:]]
        return attach(body, own)

    match item:
        case ast.When(otherwise=ast.Message() as otherwise):
            item = replace(item, body=claimed(item.body), otherwise=claimed(otherwise))
        case ast.Element(body=ast.Message() as body):
            item = replace(item, body=claimed(body))
        case ast.Block() | ast.Repeat() | ast.When():
            item = replace(item, body=claimed(item.body))
        case _:
            pass
    above += tuple(comment.text for comment in inside)
    return replace(item, comments=ast.Comments(above)) if above else item
