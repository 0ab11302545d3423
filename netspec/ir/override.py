"""`--set width=32`, `--set solver.max_epoch=5`: the command line over the file, tree to tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from netspec.diagnostics import Source, SpecErrors, UsageError, suggest
from netspec.grammar.ast import Element, Expr, Field, Item, Let, List, Message, Reference
from netspec.grammar.parser import parse

_EXCLUSIVE = {"max_iter": "max_epoch", "max_epoch": "max_iter"}
"""Setting one of these takes back the other that the file has."""


def override(tree: Message, sets: Sequence[str]) -> Message:
    """`tree` with each `path=value` put in place; UsageError if it names nothing that exists.

    let width = 64   --set width=32 →   let width = 32
    """
    for text in sets:
        path, equals, value = text.partition("=")
        if not equals or not path.strip():
            raise UsageError(f"--set takes name=value, not `{text}`")
        tree = _apply(tree, path.strip().split("."), _value(text, path, value))
    return tree


def _value(text: str, path: str, value: str) -> Expr | List:
    """What is shown of it where it is wrong is what the file would have."""
    *section, name = path.strip().split(".")
    line = f"{name}: {value}" if section else f"let {name} = {value}"
    try:
        (item,) = parse(Source("--set", line)).items
        assert isinstance(item, Field | Let)
    except (SpecErrors, ValueError, AssertionError):
        raise UsageError(f"--set {text}: `{value}` is not a value{_quoted(path, value)}") from None
    if _is_file_name(item.value):
        raise UsageError(f"--set {text}: `{value}` is a name with parts{_quoted(path, value)}")
    return item.value


def _quoted(path: str, value: str) -> str:
    """How it would be a text, unless it has quotes already."""
    return "" if '"' in value else f"; a text takes quotes: --set '{path}=\"{value}\"'"


def _is_file_name(value: Expr | List) -> bool:
    """Whether it reads as a name with parts, which only `in` has."""
    return isinstance(value, Reference) and len(value.path) > 1 and value.path[0] != "in"


def _apply(tree: Message, path: Sequence[str], value: Expr | List) -> Message:
    if len(path) == 1:
        return _set_let(tree, path[0], value)
    for i, item in enumerate(tree.items):
        if not isinstance(item, Element) or item.word != path[0] or item.body is None:
            continue
        rest = list(path[1:])
        if item.label is not None:
            if not rest or item.label.value != rest[0]:
                continue
            rest = rest[1:]
        if not rest:
            break
        body = _set_field(item.body, rest, value, item)
        return _with(tree, i, replace(item, body=body))
    sections = [_section(item) for item in tree.items if isinstance(item, Element)]
    known = suggest(".".join(path[:-1]), [s for s in sections if s.split(".")[0] in _SECTIONS])
    raise UsageError(f"--set {'.'.join(path)}: the spec has no such section{known}")


_SECTIONS = ("data", "solver")


def _section(item: Element) -> str:
    return f"{item.word}.{item.label.value}" if item.label else item.word


def _set_let(tree: Message, name: str, value: Expr | List) -> Message:
    names = [item.name for item in tree.items if isinstance(item, Let)]
    for i, item in enumerate(tree.items):
        if isinstance(item, Let) and item.name == name:
            return _with(tree, i, replace(item, value=value))
    raise UsageError(f"--set {name}: the spec has no top-level `let {name}`{suggest(name, names)}")


def _set_field(body: Message, path: Sequence[str], value: Expr | List, owner: Element) -> Message:
    key = path[0]
    if len(path) > 1:
        for i, item in enumerate(body.items):
            if isinstance(item, Element) and item.word == key and item.body is not None:
                inner = _set_field(item.body, path[1:], value, item)
                return _with(body, i, replace(item, body=inner))
        empty = Message((), owner.span)
        made = Element(key, None, empty, owner.span, owner.word_span)
        inner = _set_field(empty, path[1:], value, made)
        return replace(body, items=(*body.items, replace(made, body=inner)))
    gone = {key, _EXCLUSIVE.get(key, key)}
    kept: tuple[Item, ...] = tuple(
        item for item in body.items if not (isinstance(item, Field) and item.key in gone)
    )
    return replace(body, items=(*kept, Field(key, value, value.span, value.span)))


def _with(message: Message, index: int, item: Item) -> Message:
    items = message.items
    return replace(message, items=(*items[:index], item, *items[index + 1 :]))
