"""Expressions as canonical text on one line, with as few parentheses as can be."""

from __future__ import annotations

from typing import Final, assert_never

from netspec.grammar import ast

VALUE: Final = -1
"""A place that takes a sum or a choice: the value of a field."""
INNER: Final = 0
"""A place inside parentheses, which takes everything."""
TEST: Final = 1
"""The place after `when`, which takes everything but a choice."""

_NOT, _COMPARE, _SUM, _FACTOR, _ATOM = 3, 4, 5, 7, 8
_RANK = {"or": 1, "and": 2} | dict.fromkeys(("<", "<=", "==", "!=", ">=", ">"), _COMPARE)
_RANK |= {"+": _SUM, "-": _SUM} | dict.fromkeys(("*", "/", "//", "%"), _SUM + 1)

_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def expression(node: ast.Expr, place: int) -> str:
    """The expression, in parentheses if its place does not take it bare."""
    rank = _rank(node)
    fits = rank in (INNER, *range(_SUM, _ATOM + 1)) if place == VALUE else rank >= place
    return _bare(node) if fits else f"({_bare(node)})"


def string(value: str) -> str:
    """A quoted text; what a terminal would not show is escaped."""
    if value.isprintable() and '"' not in value and "\\" not in value:
        return f'"{value}"'
    return f'"{"".join(_ESCAPES.get(c) or _escaped(c) for c in value)}"'


def argument(node: ast.Argument) -> str:
    """`value` or `name: value`; a list in it holds no messages."""
    if isinstance(node.value, ast.List):
        parts = []
        for element in node.value.elements:
            assert not isinstance(element, ast.Message)
            parts.append(expression(element, VALUE))
        value = f"[{', '.join(parts)}]"
    else:
        value = expression(node.value, INNER)
    return f"{node.name}: {value}" if node.name else value


def formal(node: ast.Formal) -> str:
    """`name` or `name = default`."""
    return node.name if node.default is None else f"{node.name} = {expression(node.default, VALUE)}"


def _rank(node: ast.Expr) -> int:
    """How tightly an expression binds, from a choice (0) to an atom."""
    match node:
        case ast.Choice():
            return INNER
        case ast.Binary():
            return _RANK[node.operator]
        case ast.Unary():
            return _NOT if node.operator == "not" else _FACTOR
        case _:
            return _ATOM


def _bare(node: ast.Expr) -> str:
    match node:
        case ast.Number():
            return node.text
        case ast.Size():
            return "x".join(map(str, node.extent))
        case ast.String():
            return string(node.value)
        case ast.Reference():
            return node.word
        case ast.Unary("not"):
            return f"not {expression(node.operand, _NOT)}"
        case ast.Unary():
            return f"-{expression(node.operand, _FACTOR)}"
        case ast.Binary():
            return _binary(node)
        case ast.Choice():
            then, test = expression(node.then, _SUM), expression(node.test, TEST)
            return f"{then} if {test} else {expression(node.other, VALUE)}"
        case ast.Invoke():
            return f"{node.function}({', '.join(expression(a, INNER) for a in node.arguments)})"
        case _:
            assert_never(node)


def _binary(node: ast.Binary) -> str:
    """A chain of operators of one rank, along its left spine; `1/255` is written without blanks."""
    if node.operator == "/" and isinstance(node.left, ast.Number) and _is_number(node.right):
        return f"{node.left.text}/{_bare(node.right)}"
    rank = _RANK[node.operator]
    parts: list[str] = []
    rest: ast.Expr = node
    while isinstance(rest, ast.Binary) and _RANK[rest.operator] == rank:
        parts.append(f"{rest.operator} {expression(rest.right, rank + 1)}")
        rest = rest.left
        if rank == _COMPARE:
            break
    return " ".join([expression(rest, rank + 1), *reversed(parts)])


def _is_number(node: ast.Expr) -> bool:
    return isinstance(node, ast.Number)


def _escaped(char: str) -> str:
    if char.isprintable():
        return char
    code = ord(char)
    return (
        f"\\x{code:02x}"
        if code < 0x80
        else f"\\u{code:04x}"
        if code < 0x10000
        else f"\\U{code:08x}"
    )
